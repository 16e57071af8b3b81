"""The embedded cohorts of whole heads: names, grids, contrasts, tissue maps and lesions as in IXI and ARC."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from scripts import physics
from scripts.cohort.arc_cohort import SEQUENCES, make_arc_cohort
from scripts.cohort.ixi_cohort import SCANNERS, _views, make_ixi_cohort
from scripts.cohort.scanner import View
from scripts.cohort.tissue_values import MAPS, TABLE, scale_to_field
from scripts.data.arc import arc_subjects, find_arc
from scripts.data.ixi import find_ixi, ixi_subjects
from scripts.errors import InputError

SPACING = 4.0


@pytest.fixture(scope="module")
def ixi(small_cohorts: dict[str, Path]) -> Path:
    """Five subjects of Guy's, one of each other site, of seed 0."""
    return small_cohorts["ixi"]


@pytest.fixture(scope="module")
def arc(small_cohorts: dict[str, Path]) -> Path:
    """Seven subjects of seed 0."""
    return small_cohorts["arc"]


def voxels(path: str | Path) -> NDArray[np.float64]:
    return np.asarray(nib.load(path).get_fdata())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def tissue_means(image: str, maps: list[str]) -> dict[str, float]:
    """Mean intensity where a tissue fills the voxel."""
    seen = voxels(image)
    return {
        tissue: float(seen[voxels(path) > 0.85].mean()) for tissue, path in zip(("gm", "wm", "csf"), maps, strict=True)
    }


class TestIxi:
    def test_files_are_named_as_those_of_ixi(self, ixi: Path) -> None:
        names = sorted(path.name for path in ixi.glob("*.nii.gz"))
        assert len(names) == 7 * 12
        for name in names:
            assert re.fullmatch(r"(c[123])?IXI\d{3}-(Guys|HH|IOP)-\d{4}-(T1|T2|PD)\.nii\.gz", name)
        subjects = ixi_subjects(ixi)
        assert [subject.split("-")[1] for subject in subjects].count("Guys") == 5
        assert len({subject[:6] for subject in subjects}) == 7

    @pytest.mark.parametrize(
        ("modality", "order"),
        [("T1w", ("csf", "gm", "wm")), ("T2w", ("wm", "gm", "csf")), ("PDw", ("wm", "gm"))],
    )
    def test_contrasts_are_those_of_the_modality(self, ixi: Path, modality: str, order: tuple[str, ...]) -> None:
        for entry in find_ixi(ixi, modality):
            means = tissue_means(entry["image"], entry["label"])
            values = [means[tissue] for tissue in order]
            assert values == sorted(values), (entry["subject"], means)
            assert values[-1] > 1.05 * values[0]

    def test_the_head_surrounds_the_brain_and_air_the_head(self, ixi: Path) -> None:
        entry = find_ixi(ixi, "T1w")[0]
        image, brain = voxels(entry["image"]), sum(voxels(path) for path in entry["label"])
        bright = image > 0.5 * image[brain > 0.9].mean()
        assert bright[brain < 0.01].sum() > 0.3 * (brain > 0.5).sum()
        air = image[:, -2:].ravel()  # above the head
        assert 0 < air.mean() < 0.1 * image[brain > 0.9].mean()

    def test_tissue_maps_are_probabilities_on_the_grid_of_the_image(self, ixi: Path) -> None:
        for modality in ("T1w", "T2w", "PDw"):
            for entry in find_ixi(ixi, modality):
                image = nib.load(entry["image"])
                maps = [nib.load(path) for path in entry["label"]]
                assert all(m.shape == image.shape for m in maps)
                assert all(np.array_equal(m.affine, image.affine) for m in maps)
                total = sum(m.get_fdata() for m in maps)
                assert 0.99 < total.max() <= 1 + 1e-6
                volume = total.sum() * abs(np.linalg.det(image.affine[:3, :3])) / 1000
                assert 1100 < volume < 2500, "ml of brain and fluid; found 1733 to 2049, and 2407 in the largest head"

    def test_own_grids_are_those_of_ixi(self) -> None:
        t1, t2 = _views("Guys", None, np.random.default_rng(0))
        assert (t1.shape, t2.shape) == ((256, 256, 150), (256, 256, 130))
        np.testing.assert_allclose(np.linalg.norm(t1.affine[:3, :3], axis=0), (0.9375, 0.9375, 1.2))
        np.testing.assert_allclose(np.linalg.norm(t2.affine[:3, :3], axis=0), (0.9375, 0.9375, 1.25))
        assert nib.aff2axcodes(t1.affine) == ("P", "S", "R")
        assert nib.aff2axcodes(t2.affine)[2] == "S"
        assert np.count_nonzero(t1.affine[:3, :3]) > 3, "oblique"

    def test_same_seed_same_bytes_however_many_at_once_and_after_an_interruption(
        self, ixi: Path, tmp_path: Path
    ) -> None:
        folder = make_ixi_cohort(tmp_path / "b", guys=1, hh=1, iop=0, seed=0, spacing=SPACING, jobs=1, progress=False)
        ours, theirs = contents(folder), contents(ixi)
        assert len(ours) == 2 * 12 + 2
        assert all(theirs[name] == content for name, content in ours.items())
        next(folder.glob("IXI*-T2.nii.gz")).unlink()
        (folder / ".part-IXI002-Guys-0704").mkdir()
        make_ixi_cohort(folder, guys=2, hh=1, iop=0, seed=0, spacing=SPACING, progress=False)
        more = re.compile("IXI(004|008|011|014)-")
        assert contents(folder) == {name: content for name, content in theirs.items() if not more.search(name)}

    def test_another_seed_gives_other_subjects(self, ixi: Path, tmp_path: Path) -> None:
        other = make_ixi_cohort(tmp_path / "c", guys=1, hh=0, iop=0, seed=4, spacing=SPACING, progress=False)
        name = next(name for name in contents(other) if name.endswith("-T1.nii.gz"))
        assert (other / name).read_bytes() != (ixi / name).read_bytes()

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            ({"seed": 4}, "seed 0"),
            ({"spacing": 5.0}, "spacing 4.0"),
            ({"guys": -1}, "guys is -1"),
            ({"guys": 0, "hh": 0, "iop": 0}, "choose 1 to 330"),
            ({"spacing": 0.1}, "choose a number from 0.9 to 8"),
        ],
        ids=["seed", "spacing", "negative", "nobody", "too fine"],
    )
    def test_other_settings_are_refused(self, ixi: Path, changed: dict[str, float], told: str) -> None:
        settings = {"guys": 5, "hh": 1, "iop": 1, "seed": 0, "spacing": SPACING, "progress": False, **changed}
        with pytest.raises(InputError, match=re.escape(told)):
            make_ixi_cohort(ixi, **settings)  # type: ignore[arg-type]


class TestField:
    def test_relaxation_follows_the_field_and_fluid_does_not(self) -> None:
        values = {name: np.array([m for m, _, _ in TABLE[name]], np.float32) for name in ("white", "csf")}
        low = scale_to_field(values, 1.5)
        ratio = dict(zip(MAPS, low["white"] / values["white"], strict=True))
        assert ratio["PD"] == ratio["MTsat"] == 1
        # T1 of white matter 0.583 B0^0.382 and of grey 0.857 B0^0.376 s
        assert ratio["R1"] == pytest.approx(2**0.38, rel=1e-3)
        # T2* 66.2 ms at 1.5 T and 53.2 ms at 3 T (white), 84 and 66 ms (grey)
        assert 66 / 84 - 0.02 < ratio["R2star"] < 53.2 / 66.2 + 0.02
        # T2 87 and 76 ms, 80 and 71 ms
        assert 76 / 87 - 0.02 < ratio["R2"] < 71 / 80 + 0.02
        assert dict(zip(MAPS, low["csf"] / values["csf"], strict=True))["R1"] == 1
        assert scale_to_field(values, 3.0)["white"] == pytest.approx(values["white"])

    def test_the_protocols_can_be_played_out(self) -> None:
        for sequence in (*(scanner.t1 for scanner in SCANNERS.values()), SEQUENCES["T1w"]):
            p = sequence.protocol
            half = p["n"] * p["tx"] / 2
            assert p["ti"] > half
            assert p["tr"] - p["ti"] > half
            assert p["te"] < p["tx"]
        assert SEQUENCES["FLAIR"].protocol["ti"] + SEQUENCES["FLAIR"].protocol["te"] < 5.0
        fluid = physics.flair(100.0, 0.24, 0.7, **SEQUENCES["FLAIR"].protocol)
        grey = physics.flair(80.0, 0.62, 13.5, **SEQUENCES["FLAIR"].protocol)
        assert float(fluid) < 0.6 * float(grey)

    def test_a_view_lies_where_it_says(self) -> None:
        view = View("PSR", (9, 11, 13), (2.0, 3.0, 4.0), (5.0, -7.0, 11.0), (10.0, -5.0, 3.0))
        middle = view.affine @ [4, 5, 6, 1]
        np.testing.assert_allclose(middle[:3], (5.0, -7.0, 11.0))
        np.testing.assert_allclose(np.linalg.norm(view.affine[:3, :3], axis=0), (2.0, 3.0, 4.0))
        gram = view.affine[:3, :3].T @ view.affine[:3, :3]
        np.testing.assert_allclose(gram, np.diag([4.0, 9.0, 16.0]), atol=1e-9)


class TestArc:
    def test_layout_is_that_of_the_dataset(self, arc: Path) -> None:
        masks = sorted((arc / "derivatives" / "lesion_masks").rglob("*.nii.gz"))
        assert len(masks) == 7 == len(arc_subjects(arc))
        for path in masks:
            name = re.fullmatch(r"(sub-M\d{4})_(ses-\d+)_acq-spc3_run-3_T2w_desc-lesion_mask\.nii\.gz", path.name)
            assert name is not None
            assert path.parent.relative_to(arc / "derivatives" / "lesion_masks") == Path(name[1], name[2], "anat")
            source = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
            assert source["Type"] == "Lesion"
            assert (arc / source["SpatialReference"].removeprefix("bids:raw:")).is_file()
        assert json.loads((arc / "dataset_description.json").read_text())["BIDSVersion"] == "1.6.0"
        assert len((arc / "participants.tsv").read_text().splitlines()) == 8

    def test_not_every_subject_has_every_modality(self, arc: Path) -> None:
        counts = {modality: len(find_arc(arc, modality)) for modality in ("T2w", "T1w", "FLAIR")}
        assert counts == {"T2w": 7, "T1w": 6, "FLAIR": 3}
        sessions = [path for path in arc.glob("sub-*/ses-*") if path.is_dir()]
        assert len(sessions) == 7 + 1, "the third has a session without a mask"

    def test_masks_lie_on_their_t2w_and_mark_the_lesion(self, arc: Path) -> None:
        volumes = []
        for entry in find_arc(arc, "T2w"):
            image, mask = nib.load(entry["image"]), nib.load(entry["label"])
            assert np.array_equal(image.affine, mask.affine)
            assert image.shape == mask.shape
            inside = mask.get_fdata() == 1
            volumes.append(inside.sum() * SPACING**3 / 1000)
            brain = np.percentile(image.get_fdata(), 90)
            assert image.get_fdata()[inside].mean() > brain, "a lesion is bright on T2w"
        assert min(volumes) < 40
        assert max(volumes) > 60
        assert all(0.5 < volume < 260 for volume in volumes)

    def test_a_cavity_is_dark_on_flair(self, arc: Path) -> None:
        for entry in find_arc(arc, "FLAIR"):
            flair, mask = nib.load(entry["image"]), nib.load(entry["label"])
            where = np.argwhere(mask.get_fdata() == 1)
            world = nib.affines.apply_affine(mask.affine, where)
            index = np.rint(nib.affines.apply_affine(np.linalg.inv(flair.affine), world)).astype(int)
            values = flair.get_fdata()[tuple(index.T)]
            tissue = np.percentile(flair.get_fdata(), 90)
            assert np.percentile(values, 10) < 0.6 * tissue

    def test_same_seed_same_bytes_and_continuation(self, arc: Path, tmp_path: Path) -> None:
        folder = make_arc_cohort(tmp_path / "arc", 2, seed=0, spacing=SPACING, jobs=1, progress=False)
        next((folder / "derivatives").rglob("*.nii.gz")).unlink()
        make_arc_cohort(folder, 3, seed=0, spacing=SPACING, progress=False)
        ours, theirs = contents(folder), contents(arc)
        subjects = [name for name in ours if "sub-" in name]
        assert len({name.split("sub-")[1][:5] for name in subjects}) == 3
        assert all(theirs[name] == ours[name] for name in subjects)
        assert theirs["participants.tsv"].startswith(ours["participants.tsv"])
        with pytest.raises(InputError, match="holds 7 subjects and 3 were asked for"):
            make_arc_cohort(arc, 3, seed=0, spacing=SPACING, progress=False)
