from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.networks.nets import BasicUNet

from scripts.errors import InputError
from scripts.inferers.embedding import EmbeddingInferer
from scripts.inferers.finite import check_finite
from scripts.inferers.head_windows import HeadWindowInferer


class Failing(torch.nn.Module):
    """Gives NaN or infinity where the image is brightest, as a network whose numbers overflow does."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.where(images > 9, self.value, images)


def head(name: str = "head.nii.gz") -> MetaTensor:
    image = torch.zeros(1, 1, 20, 20, 20)
    image[..., 4:16, 4:16, 4:16] = 5
    image[..., 10, 10, 10] = 10
    return MetaTensor(image, meta={"filename_or_obj": name})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("fill", [None, (0.0,)])
def test_windows_that_fail_are_told(value: float, fill: tuple[float] | None) -> None:
    inferer = HeadWindowInferer(16, 1, fill=fill)
    with pytest.raises(InputError, match=r"head\.nii\.gz: the network gives NaN or Inf: check its weights"):
        inferer(head(), Failing(value))
    assert inferer(head(), Failing(7.0)).isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_fail_are_told(value: float) -> None:
    with pytest.raises(InputError, match="the network gives NaN or Inf"):
        EmbeddingInferer((16, 16, 16))(head(), Failing(value))


def test_the_files_of_a_batch_are_named() -> None:
    batch = MetaTensor(torch.zeros(2, 1), meta={"filename_or_obj": ["a.nii", "b.nii"]})
    check_finite(torch.zeros(2), batch)
    with pytest.raises(InputError, match=r"^a\.nii, b\.nii: the network gives NaN"):
        check_finite(torch.tensor([0.0, float("nan")]), batch)
    with pytest.raises(InputError, match=r"^the image: the network gives NaN"):
        check_finite(torch.tensor(float("inf")), torch.zeros(1))


@pytest.mark.parametrize("shape", [(20, 20, 1), (20, 1, 2), (3, 17, 40)])
def test_thin_images_are_padded_to_a_window(shape: tuple[int, int, int]) -> None:
    image = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0)) + 1
    for fill in (None, (0.0,)):
        found = HeadWindowInferer(16, 1, fill=fill)(image, torch.nn.Identity())
        assert found.shape == image.shape
    embedding = EmbeddingInferer((16, 16, 16))(image, torch.nn.AvgPool3d(4))
    assert embedding["pooled"].isfinite().all()


def test_a_single_slice_is_run_where_the_head_is() -> None:
    image = torch.zeros(1, 1, 40, 40, 1)
    image[:, :, 4:12, 4:12] = torch.rand(8, 8, 1, generator=torch.Generator().manual_seed(0)) + 4
    inferer = HeadWindowInferer(16, 1, fill=(0.0,))
    torch.testing.assert_close(inferer(image, torch.clone), image)
    assert 0 < inferer.n_run < inferer.n_windows


def test_windows_that_are_too_small_for_the_network_are_told() -> None:
    network = BasicUNet(3, 1, 1, features=(2, 2, 2, 2, 2, 2))
    with pytest.raises(InputError, match="the network cannot take windows of 16 x 16 x 16 voxels: make patch_size"):
        HeadWindowInferer(16, 1)(head(), network)
    assert HeadWindowInferer(32, 1)(head(), network).shape == head().shape
