"""The inference config: any NIfTI in, an embedding and a feature map out."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from scripts.inferers.embedding import embed_volume
from scripts.networks import Encoder, load_encoder
from scripts.views import zscore_foreground

NAMES = ["inference.json"]


@pytest.fixture
def affine() -> np.ndarray:
    """Oblique, left-handed, 1 mm: inference at 1 mm resamples no voxel of it once its axes are in order."""
    angle = np.deg2rad(12)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-2.0, 2.0, 2.0])
    affine[:3, 3] = [30, -20, 7]
    return affine


@pytest.fixture
def image(tmp_path: Path, affine: np.ndarray) -> Path:
    volume = np.zeros((40, 36, 34), np.float32)
    volume[4:37, 3:32, 5:30] = np.random.default_rng(0).random((33, 29, 25)) * 900 + 100
    nib.save(nib.Nifti1Image(volume, affine), tmp_path / "sub-1_T1w.nii.gz")
    return tmp_path / "sub-1_T1w.nii.gz"


@pytest.fixture
def settings(trained: dict[str, Any], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def make(image: Any, **changed: Any) -> dict[str, Any]:
        tiny = {"features": trained["settings"]["features"], "patch_size": 32}
        places = {"output_dir": str(tmp_path / "out"), "ckpt_dir": str(trained["folder"] / "models")}
        given = {"image": [str(i) for i in image] if isinstance(image, list) else str(image)}
        return {**tiny, **places, **given, **changed}

    return make


def test_writes_an_embedding_and_features_that_lie_right(
    image: Path,
    affine: np.ndarray,
    trained: dict[str, Any],
    settings: Callable[..., dict[str, Any]],
    run_here: Callable[..., ConfigWorkflow],
    tmp_path: Path,
) -> None:
    run_here(NAMES, settings(image, spacing=2.0), "infer")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "sub-1_T1w_embedding.npz",
        "sub-1_T1w_features.nii.gz",
    ]
    features = nib.load(tmp_path / "out" / "sub-1_T1w_features.nii.gz")
    embedding = np.load(tmp_path / "out" / "sub-1_T1w_embedding.npz")["embedding"]
    assert embedding.shape == (8,)
    assert features.shape == (3, 3, 3, 8)
    # the first axis runs to the left in the file and to the right in RAS+: cell 0 holds its last 16 voxels
    centre = affine @ np.array([39 - 7.5, 7.5, 7.5, 1])
    np.testing.assert_allclose(features.affine[:3, 3], centre[:3], atol=1e-3)
    np.testing.assert_allclose(features.affine[:3, :3], 16 * affine[:3, :3] @ np.diag([-1, 1, 1]), atol=1e-4)

    encoder = Encoder(features=trained["settings"]["features"])
    load_encoder(encoder, trained["folder"] / "models" / "model.pt")
    voxels = torch.from_numpy(np.ascontiguousarray(np.asarray(nib.load(image).dataobj)[::-1]))[None, None]
    expected = embed_volume(zscore_foreground(voxels), encoder, roi_size=(32, 32, 32))
    np.testing.assert_allclose(embedding, expected["pooled"], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(np.moveaxis(features.get_fdata(), -1, 0), expected["dense"], rtol=1e-2, atol=1e-3)


def test_a_folder_is_embedded_file_by_file(
    image: Path,
    settings: Callable[..., dict[str, Any]],
    run_here: Callable[..., ConfigWorkflow],
    tmp_path: Path,
) -> None:
    other = nib.load(image)
    nib.save(nib.Nifti1Image(np.asarray(other.dataobj)[:32], other.affine), tmp_path / "sub-2.nii")
    run_here(NAMES, settings(tmp_path, spacing=4.0), "infer")
    vectors = [np.load(tmp_path / "out" / f"{n}_embedding.npz")["embedding"] for n in ("sub-1_T1w", "sub-2")]
    assert all(np.isfinite(vector).all() for vector in vectors)
    assert np.abs(vectors[0] - vectors[1]).max() > 0


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])


def _double(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.stack([np.asarray(image.dataobj)] * 2, -1), image.affine), path)


def _empty(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.float32), image.affine), path)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (Path.unlink, "does not exist"),
        (lambda path: path.write_text("no image"), "cannot be read as NIfTI"),
        (_truncate, "cut off or damaged"),
        (_double, "is 4D"),
        (_empty, "no voxel above 0"),
    ],
    ids=["missing", "text", "truncated", "4D", "empty"],
)
def test_a_bad_image_is_named_and_nothing_is_written(
    image: Path,
    settings: Callable[..., dict[str, Any]],
    refusal: Callable[..., str],
    tmp_path: Path,
    damage: Callable[[Path], object],
    told: str,
) -> None:
    damage(image)
    line = refusal(NAMES, settings(image), "infer")
    assert line.startswith(str(image))
    assert told in line
    assert not (tmp_path / "out").exists()


def test_without_image_or_weights_it_says_what_to_type(
    image: Path, settings: Callable[..., dict[str, Any]], refusal: Callable[..., str], tmp_path: Path
) -> None:
    assert "--image" in refusal(NAMES, {**settings(image), "image": None}, "infer")
    line = refusal(NAMES, settings(image, ckpt_dir=str(tmp_path / "none")), "infer")
    assert "train.json" in line
    line = refusal(NAMES, settings(image, features=[4, 4, 8, 8, 16]), "infer")
    assert "[4, 4, 8, 8, 8]" in line


def test_command_ends_with_one_line_and_status_1(
    settings: Callable[..., dict[str, Any]],
    bundle_command: Callable[..., list[str]],
    execute: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    done = execute(bundle_command(NAMES, settings(tmp_path / "none.nii.gz")))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'none.nii.gz'} does not exist")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
