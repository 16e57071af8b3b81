from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import DataLoader, Dataset, DistributedSampler, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.errors import InputError, find_input_error
from scripts.handlers.evaluation import EvaluationReport
from scripts.metrics.denoising_scores import DENOISING_METRICS, denoising_scores
from scripts.metrics.segmentation_scores import SEGMENTATION_METRICS, segmentation_scores
from scripts.metrics.summary import COLUMNS, summarise
from scripts.transforms.scoring import ScoreDenoising, ScoreSegmentation
from tests.commands.client import Commands

ROOT = Path(__file__).resolve().parents[2]
CLASSES = {"1": "grey matter", "2": "CSF"}  # keys as they come from JSON
TRUTH_SIDES = (1.5, 2.5, 0.9)
DATA = {"cohort": "embedded"}


def affine(sides: Any, origin: Any, turn: float = 0.0) -> Tensor:
    matrix = np.eye(4)
    c, s = np.cos(turn), np.sin(turn)
    matrix[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag(sides)
    matrix[:3, 3] = origin
    return torch.from_numpy(matrix)


def blocks(shape: tuple[int, int, int], seed: int) -> NDArray[np.float32]:
    """Labels 0, 1 and 2 in blocks of four voxels, 0 at the border."""
    coarse = np.random.default_rng(seed).integers(0, 3, [n // 4 for n in shape])
    labels = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2).astype(np.float32)
    return np.pad(labels, 2)


def segmented(seed: int = 0, site: str = "Guys", *, without: int = 0) -> dict[str, Any]:
    """An image whose intensity is the label, at 2 mm, and a truth on a turned grid that reaches beyond it."""
    image = MetaTensor(torch.from_numpy(blocks((12, 16, 12), seed))[None], affine=affine((2, 2, 2), (-15, -20, -16)))
    truth = torch.from_numpy(blocks((20, 12, 28), seed + 50))[None].to(torch.uint8)
    truth[truth == without] = 0
    truth = MetaTensor(truth, affine=affine(TRUTH_SIDES, (-13.3, -19.1, -14.7), turn=0.2))
    return {"image": image, "truth": truth, "subject": f"IXI{seed:03d}", "site": site}


def noisy(seed: int = 0, site: str = "Guys") -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    clean = rng.normal(size=(1, 12, 13, 14)).astype(np.float32)
    head = np.zeros(clean.shape, np.uint8)
    head[:, 2:, :-3, 1:] = 1
    volumes = {"clean": clean, "image": clean + 0.2 * rng.normal(size=clean.shape).astype(np.float32)}
    sample: dict[str, Any] = {name: MetaTensor(torch.from_numpy(v)) for name, v in volumes.items()}
    return {**sample, "foreground": MetaTensor(torch.from_numpy(head)), "subject": f"IXI{seed:03d}", "site": site}


class Intensity(nn.Module):
    """Logits k x - k^2 / 2 of an image x: the class is the nearest of 0, 1 and 2."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 3, 1)
        k = torch.arange(3.0)
        self.conv.load_state_dict({"weight": k.view(3, 1, 1, 1, 1), "bias": -(k**2) / 2})

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.conv(x)
        return logits


class Share(nn.Module):
    """A twentieth of the image, taken for noise."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 20


def evaluate(samples: list[dict[str, Any]], score: Any, report: Any, network: nn.Module, **options: Any) -> Any:
    """Run a real evaluator over the samples, on as many processes as there are."""
    dataset = Dataset(samples)
    sampler = DistributedSampler(dataset, shuffle=False) if torch.distributed.is_initialized() else None
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=1, sampler=sampler),
        network=network,
        postprocessing=Compose([score] if score else []),
        val_handlers=[report],
        **options,
    )
    evaluator.run()
    return evaluator


def report_denoising(folder: str, count: int = 3) -> EvaluationReport:
    """Evaluate the noisy subjects 0 .. count - 1; also what each process of the distributed test runs."""
    report = EvaluationReport(folder, DATA, task="ixi_denoise", modality="T1w")
    samples = [noisy(seed, "IOP" if seed == 1 else "Guys") for seed in range(count)]
    evaluate(samples, ScoreDenoising(), report, Share())
    return report


def naive_labels(sample: dict[str, Any]) -> NDArray[np.int64]:
    """The image's labels at the voxels of the truth, looked up one by one; 0 outside of the image."""
    image, truth = sample["image"][0].numpy(), sample["truth"]
    to_image = np.linalg.inv(sample["image"].affine.numpy()) @ truth.affine.numpy()
    found = np.zeros(truth.shape[1:], np.int64)
    for voxel in np.ndindex(*found.shape):
        place = np.rint(to_image @ [*voxel, 1])[:3].astype(int)
        if all(0 <= p < n for p, n in zip(place, image.shape, strict=True)):
            found[voxel] = image[tuple(place)]
    return found


def test_labels_are_compared_on_the_grid_of_the_truth() -> None:
    sample = segmented(1)
    expected = naive_labels(sample)
    rows = ScoreSegmentation(CLASSES)({**sample, "pred": Intensity()(sample["image"][None])[0].detach()})["scores"]
    truth = sample["truth"][0].numpy()
    assert 0 < np.count_nonzero(expected) < 0.9 * expected.size
    for value, name in ((1, "grey matter"), (2, "CSF")):
        found = {row["metric"]: row["value"] for row in rows if row["class"] == name}
        ours, theirs = expected == value, truth == value
        # a handful of voxels lie on the border between two, where rounding decides
        assert found["DSC"] == pytest.approx(2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()), abs=2e-3)
        voxel = float(np.prod(TRUTH_SIDES)) / 1000
        assert found["volume_truth"] == pytest.approx(theirs.sum() * voxel)
        assert found["volume_prediction"] == pytest.approx(ours.sum() * voxel, rel=2e-3)
    spaced = segmentation_scores(expected, truth, classes={1: "grey matter", 2: "CSF"}, spacing=TRUTH_SIDES)
    assert rows[1]["value"] == pytest.approx(spaced[1]["value"], abs=0.3)


def test_logits_labels_and_plain_tensors_say_the_same() -> None:
    sample, score = segmented(2), ScoreSegmentation(CLASSES)
    logits = Intensity()(sample["image"][None])[0].detach()
    rows = score({**sample, "pred": logits})["scores"]
    assert score({**sample, "pred": sample["image"]})["scores"] == rows
    assert score({**sample, "pred": logits.as_subclass(Tensor).half()})["scores"] == rows
    renamed = {"p": sample["image"], "t": sample["truth"]}
    assert ScoreSegmentation(CLASSES, prediction_key="p", truth_key="t", image_key="i")(renamed)["scores"] == rows


def test_a_perfect_prediction_is_perfect_and_its_sample_is_kept() -> None:
    sample = segmented(3)
    given = {**sample, "pred": sample["truth"]}
    scored = ScoreSegmentation(CLASSES)(given)
    assert [row["value"] for row in scored["scores"] if row["metric"] == "DSC"] == [1, 1]
    assert [row["value"] for row in scored["scores"] if row["metric"] == "HD95"] == [0, 0]
    assert all(scored[key] is given[key] for key in given)
    assert "scores" not in given


def test_noise_is_taken_off_the_noisy_image() -> None:
    sample = noisy(4)
    rows = ScoreDenoising()({**sample, "pred": sample["image"] / 4})["scores"]
    clean, image, head = (sample[key][0].numpy() for key in ("clean", "image", "foreground"))
    expected = denoising_scores(clean, image, 0.75 * image.astype(np.float64), head > 0)
    assert [row["metric"] for row in rows] == list(DENOISING_METRICS)
    for row, other in zip(rows, expected, strict=True):
        assert row["value"] == pytest.approx(other["value"], rel=1e-5)


@pytest.mark.parametrize("inferer", [None, SlidingWindowInferer(16, overlap=0.25)], ids=["whole", "windows"])
def test_an_evaluation_leaves_table_summary_and_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, inferer: Any
) -> None:
    samples = [segmented(1, "IOP"), segmented(0), segmented(2, without=2), segmented(4, "IOP")]
    report = EvaluationReport(tmp_path / "eval", DATA, task="ixi_seg", modality="T2w")
    with caplog.at_level(logging.INFO, logger="scripts.handlers.evaluation"):
        evaluator = evaluate(samples, ScoreSegmentation(CLASSES), report, Intensity(), inferer=inferer)
    table = pd.read_csv(tmp_path / "eval" / "metrics.csv")
    assert list(table.columns) == list(COLUMNS)
    assert list(table["subject"].unique()) == ["IXI000", "IXI002", "IXI001", "IXI004"]
    assert set(table["modality"]) == {"T2w"}
    assert len(table) == 4 * len(CLASSES) * len(SEGMENTATION_METRICS)
    for sample in samples:
        logits = Intensity()(sample["image"][None])[0].detach()
        mine = table[table["subject"] == sample["subject"]]
        assert (mine["site"] == sample["site"]).all()
        rows = ScoreSegmentation(CLASSES)({**sample, "pred": logits})["scores"]
        pd.testing.assert_frame_equal(
            mine[["class", "metric", "value"]].reset_index(drop=True), pd.DataFrame(rows), rtol=1e-12
        )
    summary = pd.read_csv(tmp_path / "eval" / "summary.csv")
    pd.testing.assert_frame_equal(summary, summarise(table))
    assert "ixi_seg on T2w: 4 test subjects of the embedded cohort" in caplog.text
    assert "0 of 8 predictions are empty and 1 of 8 truths are empty, scored all the same." in caplog.text
    assert str(tmp_path / "eval" / "metrics.csv") in caplog.text
    assert str(tmp_path / "eval" / "summary.csv") in caplog.text
    # nothing but words and numbers is kept of a sample, and a second run starts anew
    assert {type(value) for row in report.rows for value in row.values()} == {str, float}
    evaluator.run()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "eval" / "metrics.csv"), table)


def test_an_evaluation_is_tracked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'runs.db'}"
    run = {"uri": uri, "experiment": "trial", "name": "ixi_denoise", "memory": str(tmp_path / "run.json")}
    report = EvaluationReport(
        tmp_path, {"cohort": "real"}, task="ixi_denoise", modality="T1w", run={**run, "tags": {"seed": 3}}
    )
    samples = [noisy(0), noisy(1), noisy(2, "odd (site)")]
    with caplog.at_level(logging.INFO, logger="scripts.handlers"):
        evaluate(samples, ScoreDenoising(), report, Share())
    assert "3 test subjects of the real cohort" in caplog.text
    assert "empty" not in caplog.text.split("real cohort")[1]
    client = MlflowClient(uri)
    (found,) = client.search_runs([client.get_experiment_by_name("trial").experiment_id])
    assert found.info.run_id in caplog.text
    assert found.info.status == "FINISHED"
    assert found.data.tags["seed"] == "3"
    summary = pd.read_csv(tmp_path / "summary.csv")
    expected = {
        f"test/{'odd _site_' if row.site != 'Guys' else 'Guys'}/image/{row.metric}": row.mean
        for row in summary.itertuples()
    }
    assert len(expected) == 2 * len(DENOISING_METRICS)
    assert found.data.metrics == pytest.approx(expected)
    assert {file.path for file in client.list_artifacts(found.info.run_id)} == {"metrics.csv", "summary.csv"}


_PROCESS = """
import importlib.util, sys, torch
_, file, store, folder, rank = sys.argv
spec = importlib.util.spec_from_file_location("shared", file)
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)
torch.distributed.init_process_group("gloo", init_method="file://" + store, rank=int(rank), world_size=2)
shared.report_denoising(folder)
torch.distributed.destroy_process_group()
"""


def test_two_processes_write_the_table_of_one(tmp_path: Path, commands: Commands) -> None:
    # three subjects on two processes: the sampler repeats one
    words = [sys.executable, "-c", _PROCESS, __file__, str(tmp_path / "store"), str(tmp_path / "both")]
    with (tmp_path / "errors").open("w") as errors:
        processes = [commands.start([*words, str(rank)], cwd=ROOT, stderr=errors) for rank in (0, 1)]
        report_denoising(str(tmp_path / "one"))
        assert [process.wait(900) for process in processes] == [0, 0], (tmp_path / "errors").read_text()
    for name in ("metrics.csv", "summary.csv"):
        assert (tmp_path / "both" / name).read_text() == (tmp_path / "one" / name).read_text()
    assert pd.read_csv(tmp_path / "both" / "metrics.csv")["subject"].nunique() == 3


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"truth": None}, "subject IXI000: there is no 'truth' among image, subject, .*: keep it"),
        ({"pred": None}, "there is no 'pred'"),
        ({"truth": torch.zeros(1, 4, 4, 4)}, "'truth' does not know its grid"),
        ({"pred": torch.zeros(3, 4, 4, 4)}, "the grid of 'pred' is unknown: keep its affine"),
        ({"pred": torch.zeros(2, 16, 20, 16)}, "gives 2 channels for the classes grey matter, CSF: use one of 3"),
        ({"pred": torch.full((3, 16, 20, 16), torch.nan)}, "holds NaN or Inf: check the network's weights"),
        ({"pred": torch.full((1, 16, 20, 16), 0.3)}, "one channel of fractions"),
        ({"pred": torch.full((1, 16, 20, 16), 7)}, "IXI000: the prediction holds the label values 7: write 0"),
        ({"truth": MetaTensor(torch.full((1, 4, 4, 4), 9))}, "IXI000: the truth holds the label values 9: write 0"),
    ],
)
def test_bad_segmentations_are_told_with_the_subject(change: dict[str, Any], match: str) -> None:
    sample = segmented()
    sample = {**sample, "pred": sample["image"], **change}
    with pytest.raises(InputError, match=match) as caught:
        ScoreSegmentation(CLASSES)({key: value for key, value in sample.items() if value is not None})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"clean": None}, "subject IXI000: there is no 'clean'"),
        ({"pred": torch.zeros(2, 12, 13, 14)}, r"pred \(2, 12, 13, 14\), .*: give volumes \(1, I, J, K\) on one grid"),
        ({"pred": torch.zeros(1, 12, 13, 1)}, "on one grid"),
        ({"pred": torch.full((1, 12, 13, 14), torch.inf)}, "IXI000: the denoised image holds NaN or Inf"),
        ({"foreground": torch.zeros(1, 12, 13, 14)}, "the head mask is empty"),
    ],
)
def test_bad_denoisings_are_told_with_the_subject(change: dict[str, Any], match: str) -> None:
    sample = noisy()
    sample = {**sample, "pred": sample["image"] / 20, **change}
    with pytest.raises(InputError, match=match):
        ScoreDenoising()({key: value for key, value in sample.items() if value is not None})


@pytest.mark.parametrize(
    ("samples", "score", "match"),
    [
        ([{k: v for k, v in noisy().items() if k != "site"}], ScoreDenoising(), "test sample has no site: name it"),
        ([noisy()], None, "test sample has no scores: .* score it in postprocessing"),
        ([noisy(), noisy()], ScoreDenoising(), "subject IXI000 is there twice"),
    ],
    ids=["site", "scores", "twice"],
)
def test_bad_evaluations_are_told(tmp_path: Path, samples: Any, score: Any, match: str) -> None:
    report = EvaluationReport(tmp_path, DATA, task="ixi_denoise", modality="T1w")
    with pytest.raises(InputError, match=match) as caught:
        evaluate(samples, score, report, Share())
    assert find_input_error(caught.value) is caught.value


def test_nothing_evaluated_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"arc_lesion: no FLAIR image was evaluated: give a dataset with test"):
        EvaluationReport(tmp_path, DATA, task="arc_lesion", modality="FLAIR").table()
