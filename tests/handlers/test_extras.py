"""What an evaluation leaves behind beside its scores: cases to look at, features of the encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.networks.nets import BasicUNet
from monai.transforms import Compose
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.handlers.evaluation import EvaluationReport
from scripts.handlers.feature_table import FeatureTable
from scripts.handlers.keep_cases import KeepCases, rank_cases
from scripts.inferers.embedding import embed_volume
from scripts.io.resample import to_grid
from scripts.networks import Encoder
from scripts.transforms.scoring import ScoreDenoising, ScoreSegmentation

CLASSES = {"1": "grey matter", "2": "CSF"}
DATA = {"cohort": "embedded"}
AFFINE = torch.tensor([[-2.0, 0, 0, 30], [0, 2, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]], dtype=torch.float64)


def segmented(seed: int, wrong: float = 0.0) -> dict[str, Any]:
    """An image of the intensities 0, 1, 2, and labels of which a share differs from it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (6, 7, 5)).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    shown = np.where(rng.random(labels.shape) < wrong, (labels + 1) % 3, labels)
    moved = AFFINE.clone()
    moved[:3, 3] += AFFINE[:3, :3] @ torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    truth = MetaTensor(torch.from_numpy(labels[None].astype(np.uint8)), affine=moved)
    image = MetaTensor(torch.from_numpy(shown[None].astype(np.float32)), affine=moved)
    # the network sees another field of view than the truth's
    image = to_grid(image, AFFINE, (14, 16, 12), "nearest")
    return {"image": image, "truth": truth, "subject": f"IXI{seed:03d}", "site": "HH" if seed % 2 else "Guys"}


def noisy(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    clean = MetaTensor(torch.from_numpy(rng.normal(size=(1, 12, 13, 14)).astype(np.float32)), affine=AFFINE)
    noise = torch.from_numpy(rng.normal(size=clean.shape).astype(np.float32)) * 0.1 * (seed + 1)
    image = MetaTensor(clean.as_subclass(Tensor) + noise, affine=AFFINE)
    head = MetaTensor(torch.ones(clean.shape, dtype=torch.uint8))
    return {"image": image, "clean": clean, "foreground": head, "subject": f"IXI{seed:03d}", "site": "Guys"}


class Nearest(nn.Module):
    """Logits by which the class is the nearest whole number."""

    def forward(self, x: Tensor) -> Tensor:
        k = torch.arange(3.0).view(1, 3, 1, 1, 1)
        return k * x - k**2 / 2


class Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2


def evaluate(samples: list[dict[str, Any]], score: Any, network: nn.Module, folder: Path, *extras: Any) -> pd.DataFrame:
    report = EvaluationReport(folder, DATA, task="task", modality="T1w", extras=extras)
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(samples), batch_size=1),
        network=network,
        postprocessing=Compose([score]),
        val_handlers=[report],
    ).run()
    return pd.read_csv(folder / "metrics.csv")


def volume(path: str) -> nib.Nifti1Image:
    return nib.load(path)


class TestRanking:
    def test_best_median_and_worst_by_the_mean_over_classes(self) -> None:
        values = {"a": (0.9, 0.1), "b": (0.6, 0.6), "c": (0.2, 0.2), "d": (0.55, 0.4), "e": (0.3, 0.5)}
        rows = [
            {"subject": name, "site": "S", "class": str(n), "metric": "DSC", "value": value}
            for name, pair in values.items()
            for n, value in enumerate(pair)
        ]
        rows += [{**rows[0], "metric": "HD95", "value": 1e9}]
        cases = rank_cases(pd.DataFrame(rows), "DSC")
        # means: a 0.5, b 0.6, c 0.2, d 0.475, e 0.4
        assert cases["subject"].tolist() == ["b", "d", "c"]
        assert cases["rank"].tolist() == ["best", "median", "worst"]
        assert cases["value"].tolist() == pytest.approx([0.6, 0.475, 0.2])

    @pytest.mark.parametrize(("count", "expected"), [(1, "aaa"), (2, "aab"), (4, "abd")])
    def test_few_subjects(self, count: int, expected: str) -> None:
        names = "abcd"[:count]
        rows = [{"subject": s, "site": "", "metric": "PSNR", "value": 9.0 - n} for n, s in enumerate(names)]
        assert "".join(rank_cases(pd.DataFrame(rows), "PSNR")["subject"]) == expected


ROOM = pytest.mark.parametrize("room", [2**28, 0], ids=["held", "made once more"])


class TestCases:
    @ROOM
    def test_labels_on_the_grid_of_the_input(self, tmp_path: Path, room: int) -> None:
        samples = [segmented(n, wrong=0.1 * n) for n in range(5)]
        scores = evaluate(samples, ScoreSegmentation(CLASSES), Nearest(), tmp_path, KeepCases("DSC", room=room))
        cases = pd.read_csv(tmp_path / "cases.csv")
        means = scores[scores["metric"] == "DSC"].groupby("subject")["value"].mean()
        assert cases["subject"].tolist() == ["IXI000", "IXI002", "IXI004"]
        assert cases["value"].tolist() == pytest.approx([means[name] for name in cases["subject"]])
        assert sorted(path.name for path in (tmp_path / "cases").iterdir()) == sorted(
            f"{rank}_{what}.nii.gz" for rank in ("best", "median", "worst") for what in ("image", "truth", "prediction")
        )
        for case, sample in zip(cases.itertuples(), (samples[0], samples[2], samples[4]), strict=True):
            for path in (case.image, case.truth, case.prediction):
                np.testing.assert_allclose(volume(path).affine, AFFINE)
            shown = sample["image"][0].numpy()
            np.testing.assert_array_equal(np.asarray(volume(case.image).dataobj), shown)
            np.testing.assert_array_equal(np.asarray(volume(case.prediction).dataobj), shown)
            truth = to_grid(sample["truth"], AFFINE, shown.shape, "nearest")[0].numpy()
            np.testing.assert_array_equal(np.asarray(volume(case.truth).dataobj), truth)

    @ROOM
    def test_noisy_clean_and_denoised(self, tmp_path: Path, room: int) -> None:
        samples = [noisy(n) for n in range(3)]
        evaluate(samples, ScoreDenoising(), Half(), tmp_path, KeepCases("PSNR", room=room))
        for case in pd.read_csv(tmp_path / "cases.csv").itertuples():
            sample = samples[int(case.subject[-3:])]
            for path, wanted in (
                (case.image, sample["image"]),
                (case.truth, sample["clean"]),
                (case.prediction, sample["image"] / 2),
            ):
                np.testing.assert_allclose(np.asarray(volume(path).dataobj), wanted[0].numpy(), atol=1e-6)

    @pytest.mark.parametrize("word", [False, "false"])
    def test_none_are_kept_if_none_are_wanted(self, tmp_path: Path, word: Any) -> None:
        evaluate([noisy(0)], ScoreDenoising(), Half(), tmp_path, KeepCases("PSNR", keep=word))
        assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv", "summary.csv"]

    def test_a_word_that_says_neither_is_refused(self) -> None:
        with pytest.raises(InputError, match="keep_cases='maybe' is neither true nor false"):
            KeepCases(keep="maybe")


def test_features_are_the_embedding_of_each_image_by_the_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    widths = (4, 4, 8, 8, 16)
    network = BasicUNet(3, 1, 3, features=(*widths, 4), act="GELU", norm="instance", dropout=0.2).eval()
    encoder = Encoder(1, widths).eval()
    encoder.load_state_dict({key: value for key, value in network.state_dict().items() if key in encoder.state_dict()})
    rng = np.random.default_rng(0)
    samples = []
    for n in range(3):
        values = torch.from_numpy(rng.normal(size=(1, 40, 36, 32)).astype(np.float32))
        truth = MetaTensor(torch.from_numpy(rng.integers(0, 3, (1, 40, 36, 32)).astype(np.uint8)), affine=AFFINE)
        image = MetaTensor(values, affine=AFFINE)
        samples.append({"image": image, "truth": truth, "subject": f"s{2 - n}", "site": "HH"})
    evaluate(samples, ScoreSegmentation(CLASSES), network, tmp_path, FeatureTable(32))
    table = pd.read_csv(tmp_path / "features.csv")
    assert list(table.columns) == ["subject", "site", *(f"f{n}" for n in range(16))]
    assert table["subject"].tolist() == ["s0", "s1", "s2"]
    for row, sample in zip(table.iloc[:, 2:].to_numpy(), reversed(samples), strict=True):
        with torch.no_grad():
            wanted = embed_volume(
                sample["image"].as_subclass(Tensor)[None], encoder, roi_size=(32, 32, 32), overlap=0.0
            )["pooled"]
        np.testing.assert_allclose(row, wanted.numpy(), rtol=1e-4, atol=1e-5)
