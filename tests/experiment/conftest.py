from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from scripts.experiment.results.collect import KEYS, Results
from scripts.experiment.tables.all_tables import all_tables
from scripts.experiment.tables.text import Table
from tests.experiment.browser import PATH, Browser

VARIANTS = ("base", "seqaug", "seqinv", "random")
SITES = {"Guys": 10, "HH": 8, "IOP": 8}
TISSUES = ("grey matter", "white matter", "CSF")
SKILL = {"base": 0.0, "seqaug": 0.02, "seqinv": 0.05, "random": -0.04}
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def keys(task: str, variant: str, modality: str, fraction: float, seed: int = 0) -> dict[str, object]:
    return dict(zip(KEYS, (task, variant, modality, fraction, seed, "embedded"), strict=True))


def ixi_scores(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for variant in VARIANTS:
        for modality in ("T1w", "T2w", "PDw"):
            for fraction in (0.01, 1.0):
                for site, count in SITES.items():
                    for n in range(count):
                        where = {"subject": f"IXI{n:03d}-{site}-0000", "site": site}
                        level = 0.6 + SKILL[variant] + 0.15 * fraction - 0.05 * (site != "Guys")
                        own = keys("ixi_seg", variant, modality, fraction)
                        for tissue in TISSUES:
                            value = float(np.clip(level + 0.03 * rng.standard_normal(), 0, 1))
                            rows.append({**own, **where, "class": tissue, "metric": "DSC", "value": value})
                        noisy = 13.98
                        psnr = noisy + 3 + 20 * SKILL[variant] + fraction + 0.1 * rng.standard_normal()
                        own = keys("ixi_denoise", variant, modality, fraction)
                        for metric, value in (("PSNR", psnr), ("PSNR_noisy", noisy), ("PSNR_gain", psnr - noisy)):
                            rows.append({**own, **where, "class": "image", "metric": metric, "value": value})
    return pd.DataFrame(rows)


def arc_scores(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for variant in VARIANTS:
        for modality in ("T1w", "T2w", "FLAIR"):
            for n in range(12):
                own = {**keys("arc_lesion", variant, modality, 1.0), "subject": f"sub-M{2000 + n}", "site": "ARC"}
                dsc = float(np.clip(0.4 + SKILL[variant] + 0.2 * rng.standard_normal(), 0, 1))
                for metric, value in (("DSC", dsc), ("HD95", 60 - 40 * dsc), ("empty_prediction", float(dsc == 0))):
                    rows.append({**own, "class": "lesion", "metric": metric, "value": value})
    return pd.DataFrame(rows)


def invariance_rows() -> pd.DataFrame:
    measures = {
        "retrieval_top1": (0.2, 1 / 96, "higher"),
        "alignment": (0.01, 0.0076, "lower"),
        "sequence_probe": (0.3, 0.2, "lower"),
        "tissue_r2_across_sequences": (0.1, 0.0, "higher"),
    }
    rows = []
    for variant in (*VARIANTS, "seqinv-no_l1", "seqinv-vicreg"):
        for level in ("pooled", "dense"):
            for metric, (value, chance, better) in measures.items():
                value = value + SKILL.get(variant, 0.03)
                row = {"level": level, "metric": metric, "value": value, "low": value - 0.02, "high": value + 0.02}
                rows.append(
                    {**keys("pretrain", variant, "qmri", 1.0), **row, "n": 96, "chance": chance, "better": better}
                )
    return pd.DataFrame(rows)


def case_rows(folder: Path, rng: np.random.Generator) -> pd.DataFrame:
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 32)] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    head = np.where(radius < 0.9, 1.0, -1.5) + 0.1 * rng.standard_normal(radius.shape)
    truth = np.digitize(-radius, [-0.8, -0.6, -0.3]).astype(np.uint8)
    rows = []
    for task, modality in (("ixi_seg", "T1w"), ("arc_lesion", "T2w"), ("ixi_denoise", "T1w")):
        for variant in ("base", "seqinv"):
            for place, (rank, value) in enumerate((("best", 0.8), ("median", 0.6), ("worst", 0.3))):
                wrong = np.roll(truth, 1 + place, axis=0)
                volumes = {"image": head, "truth": truth, "prediction": wrong}
                if task == "arc_lesion":
                    volumes.update(truth=(truth == 3).astype(np.uint8), prediction=(wrong == 3).astype(np.uint8))
                if task == "ixi_denoise":
                    noisy = head + 0.2 * rng.standard_normal(head.shape)
                    volumes.update(image=noisy, truth=head, prediction=0.5 * (head + noisy))
                files = {}
                for what, volume in volumes.items():
                    path = folder / f"{task}-{variant}-{rank}_{what}.nii.gz"
                    kind = np.uint8 if volume.dtype == np.uint8 else np.float32
                    nib.save(nib.Nifti1Image(volume.astype(kind), AFFINE), path)
                    files[what] = str(path)
                metric = "PSNR" if task == "ixi_denoise" else "DSC"
                told = {"rank": rank, "subject": f"IXI{place:03d}", "site": "Guys", "metric": metric, "value": value}
                rows.append({**keys(task, variant, modality, 1.0), **told, **files})
    return pd.DataFrame(rows)


def feature_rows(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for variant in VARIANTS:
        for place, modality in enumerate(("T1w", "T2w", "PDw")):
            for site, count in SITES.items():
                for n in range(count):
                    shift = np.zeros(16)
                    shift[place] = 0.0 if variant == "seqinv" else 3.0
                    vector = {f"f{c}": value for c, value in enumerate(rng.standard_normal(16) + shift)}
                    own = keys("ixi_seg", variant, modality, 1.0)
                    rows.append({**own, "subject": f"IXI{n:03d}-{site}-0000", "site": site, **vector})
    return pd.DataFrame(rows)


def across_rows(rng: np.random.Generator) -> pd.DataFrame:
    """Networks with labels on T1w alone, on every modality; one recipe with a gain on those that it has not seen."""
    rows = []
    for variant, gain in (("random", 0.0), ("scratch", 0.02), ("maps-tuned", 0.3)):
        for tested in ("T1w", "T2w", "PDw", "FLAIR"):
            level = 0.7 if tested == "T1w" else 0.2 + gain
            for n in range(6):
                where = {"subject": f"IXI{n:03d}-Guys-0000", "site": "Guys", "tested": tested}
                for tissue in TISSUES:
                    value = float(level + 0.03 * rng.standard_normal())
                    own = keys("ixi_seg", variant, "T1w", 0.05)
                    rows.append({**own, **where, "class": tissue, "metric": "DSC", "value": value})
    return pd.DataFrame(rows)


def results_in(folder: Path, seed: int = 0) -> Results:
    rng = np.random.default_rng(seed)
    scores = pd.concat([ixi_scores(rng), arc_scores(rng)], ignore_index=True)
    invariance = invariance_rows()
    trained = invariance.loc[invariance["variant"] != "random", list(KEYS)]
    runs = pd.concat([scores[list(KEYS)], trained]).drop_duplicates(ignore_index=True)
    told = [f"{row.task}-{row.variant}-{row.modality}-{row.fraction:g}-s0-{n:08x}" for n, row in runs.iterrows()]
    runs = runs.assign(
        cell=told,
        run_id=[f"{n:032x}" for n in range(len(runs))],
        started=pd.Timestamp("2026-11-01T12:00:00", tz="UTC"),
        ended=pd.Timestamp("2026-11-01T12:02:00", tz="UTC"),
        minutes=1.5,
        patch_size=32,
        commit="0123456789ab",
    )
    planned = runs.drop(columns=["run_id", "started", "ended", "minutes", "patch_size", "commit", "cohort"])
    facts: dict[str, Any] = {
        "preset": "mini",
        "commit": "0123456789ab",
        "hardware": "x86_64, 2 cores, no GPU",
        "processes": 2,
    }
    facts["commands"] = ["python -m scripts experiment run --preset mini --study"]
    facts["recipes"] = {"maps-tuned": "the U-Net of map regression, trained further"}
    return Results(
        grid="mini",
        uri="sqlite:///nowhere.db",
        runs=runs,
        scores=scores,
        invariance=invariance,
        cases=case_rows(folder, rng),
        features=feature_rows(rng),
        planned=planned,
        across=across_rows(np.random.default_rng(seed + 1)),
        facts={**facts, "description": "a grid made up for tests", "started": "2026-11-01 12:00:00"},
    )


@pytest.fixture(scope="session")
def results_once(shared: Callable[[str, Callable[[Path], Any]], Any]) -> Results:
    made: Results = shared("results", results_in)
    return made


@pytest.fixture
def results(results_once: Results, tmp_path: Path) -> Results:
    """The results, made once; their volumes are copies in tmp_path."""
    cases = results_once.cases.copy()
    shutil.copytree(Path(cases["image"].iloc[0]).parent, tmp_path, dirs_exist_ok=True)
    for what in ("image", "truth", "prediction"):
        cases[what] = [str(tmp_path / Path(path).name) for path in cases[what]]
    return replace(copy.deepcopy(results_once), cases=cases)


@pytest.fixture(scope="session")
def tables_once(shared: Callable[[str, Callable[[Path], Any]], Any], results_once: Results) -> list[Table]:
    made: list[Table] = shared("tables", lambda folder: all_tables(results_once))
    return made


@pytest.fixture
def tables(tables_once: list[Table]) -> list[Table]:
    """All tables of the results: their many tests of significance are done once."""
    return copy.deepcopy(tables_once)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A Chromium that all tests of a worker open their pages in."""
    if PATH is None:
        pytest.skip("needs chromium to open the page")
    with Browser(tmp_path_factory.mktemp("browser") / "profile") as made:
        yield made
