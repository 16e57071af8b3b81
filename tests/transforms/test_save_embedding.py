from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose, EnsureChannelFirstd, Lambdad, LoadImaged, Orientationd
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.inferers.embedding import EmbeddingInferer, embed_volume
from scripts.transforms.save_embedding import SaveEmbedding, feature_affine, save_embedding
from scripts.views import zscore_foreground


class Pool(nn.Module):
    def __init__(self, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool3d(x, self.stride)


@pytest.fixture
def affine() -> NDArray[np.float64]:
    """Oblique, left-handed, anisotropic."""
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.1, 0.9, 1.4])
    affine[:3, 3] = [12.0, -30.0, 7.5]
    return affine


def test_a_cell_lies_at_the_mean_of_its_voxels_in_world_space(affine: NDArray[np.float64], tmp_path: Path) -> None:
    # the image holds a world coordinate of each voxel, so a cell's feature is the coordinate it must map to
    stride, shape = (4, 2, 8), (16, 12, 24)
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    maps = [
        embed_volume(
            torch.from_numpy(world[None, None, ..., axis]),
            Pool(stride),
            roi_size=(8, 8, 16),
            foreground=torch.ones(1, 1, *shape),
        )
        for axis in range(3)
    ]
    _, path = save_embedding(
        torch.zeros(3),
        torch.cat([got["dense"] for got in maps]),
        affine=affine,
        stride=maps[0]["stride"].tolist(),
        output_dir=tmp_path,
        name="sub",
    )
    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Image)
    assert image.shape == (4, 6, 3, 3)
    cells = np.stack(np.meshgrid(*map(np.arange, image.shape[:3]), indexing="ij"), axis=-1)
    np.testing.assert_allclose(nib.affines.apply_affine(image.affine, cells), image.get_fdata(), atol=1e-4)
    np.testing.assert_allclose(nib.affines.voxel_sizes(image.affine), [4.4, 1.8, 11.2], rtol=1e-5)


def test_feature_affine_of_stride_one_is_the_image_affine(affine: NDArray[np.float64]) -> None:
    np.testing.assert_array_equal(feature_affine(affine, (1, 1, 1)), affine)


def test_files_come_back_as_they_went_in(affine: NDArray[np.float64], tmp_path: Path) -> None:
    pooled, dense = torch.randn(5), torch.randn(5, 2, 3, 4)
    paths = [
        save_embedding(
            pooled, dense, affine=affine, stride=(16, 16, 16), output_dir=tmp_path / part, name="a", source="in/a.nii"
        )
        for part in ("one", "two")
    ]
    with np.load(paths[0][0]) as stored:
        np.testing.assert_array_equal(stored["embedding"], pooled)
        assert str(stored["source"]) == "in/a.nii"
        assert stored["stride"].tolist() == [16, 16, 16]
    np.testing.assert_array_equal(np.asarray(nib.load(paths[0][1]).dataobj), dense.movedim(0, -1))  # type: ignore[attr-defined]
    assert paths[0][1].read_bytes() == paths[1][1].read_bytes()
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"a_embedding.npz", "a_features.nii.gz"}


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(image: nib.Nifti1Image, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(nib, "save", half)
    with pytest.raises(OSError, match="disk full"):
        save_embedding(
            torch.zeros(2), torch.zeros(2, 1, 1, 1), affine=np.eye(4), stride=(1, 1, 1), output_dir=tmp_path, name="a"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a_embedding.npz"]


@pytest.fixture
def scans(affine: NDArray[np.float64], tmp_path: Path) -> list[Path]:
    """Two scans of one name, in folders of their own."""
    paths = []
    for subject in ("s1", "s2"):
        (tmp_path / "data" / subject).mkdir(parents=True)
        data = np.random.default_rng(len(paths)).uniform(10, 90, size=(20, 18, 14)).astype(np.float32)
        paths.append(tmp_path / "data" / subject / "t1.w.nii.gz")
        nib.save(nib.Nifti1Image(data, affine), paths[-1])
    return paths


def run_evaluator(scans: list[Path], saver: SaveEmbedding) -> None:
    """Embed the scans as an inference configuration does."""
    transforms = Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Orientationd("image", axcodes="RAS", labels=None),
            Lambdad("image", func=zscore_foreground),
        ]
    )
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset([{"image": str(path)} for path in scans], transforms), batch_size=1),
        network=Pool((4, 4, 4)),
        inferer=EmbeddingInferer((8, 8, 8)),
        postprocessing=saver,
    ).run()


def test_runs_within_a_monai_evaluator(scans: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_evaluator(scans, SaveEmbedding(str(out), data_root_dir=str(tmp_path / "data")))
    for path in scans:
        folder = out / path.parent.name
        raw = nib.load(path)
        canonical = nib.as_closest_canonical(raw)
        with np.load(folder / "t1.w_embedding.npz") as stored:
            assert str(stored["source"]) == str(path)
            assert stored["embedding"].shape == (1,)
        features = nib.load(folder / "t1.w_features.nii.gz")
        expected = feature_affine(canonical.affine, (4, 4, 4))  # type: ignore[attr-defined]
        np.testing.assert_allclose(features.affine, expected, atol=1e-4)  # type: ignore[attr-defined]
        data = np.asarray(canonical.dataobj)  # type: ignore[attr-defined]
        block = (data[:4, 4:8, 8:12].mean() - data.mean()) / data.std()
        assert float(features.dataobj[0, 1, 2, 0]) == pytest.approx(block, abs=1e-4)  # type: ignore[attr-defined]


def item(path: str) -> dict[str, object]:
    image = MetaTensor(torch.rand(1, 4, 4, 4), meta={"filename_or_obj": path})
    return {"image": image, "pred": embed_volume(image[None], Pool((2, 2, 2)), roi_size=(4, 4, 4))}


def test_two_images_of_one_name_are_not_written_over_each_other(tmp_path: Path) -> None:
    saver = SaveEmbedding(str(tmp_path))
    saved = saver(item("/a/t1.nii"))
    assert Path(saved["features_file"]) == tmp_path / "t1_features.nii.gz"
    saver(item("/a/t1.nii"))
    with pytest.raises(InputError, match=r"/b/t1.nii.gz and /a/t1.nii would both .* set data_root_dir"):
        saver(item("/b/t1.nii.gz"))


def test_bad_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not lie in data_root_dir"):
        SaveEmbedding(str(tmp_path), data_root_dir=str(tmp_path))(item("/elsewhere/t1.nii"))
    with pytest.raises(InputError, match="image does not know its file"):
        SaveEmbedding(str(tmp_path))({"image": torch.zeros(1, 4, 4, 4), "pred": {}})
    assert list(tmp_path.iterdir()) == []
