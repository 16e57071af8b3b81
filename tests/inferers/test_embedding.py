from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.inferers.embedding import EmbeddingInferer, embed_volume, encoder_stride
from scripts.networks import Encoder, ViTEncoder
from scripts.views import zscore_foreground


class Pool(nn.Module):
    """Mean of each block of ``stride`` voxels: what a cell shows depends on its own voxels alone."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 0 if x.is_meta else len(x)
        return F.avg_pool3d(x, self.stride)


@pytest.fixture
def image() -> Tensor:
    """(1, 1, 40, 37, 21): a block of noise in a background of 0."""
    image = torch.zeros(1, 1, 40, 37, 21)
    image[..., 5:38, 3:30, 2:20] = torch.rand(33, 27, 18, generator=torch.Generator().manual_seed(0)) + 0.5
    return image


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(features=(2, 2, 3, 3, 4))


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.4, 0.9])
def test_windows_of_a_local_encoder_join_without_seams(image: Tensor, overlap: float) -> None:
    got = embed_volume(image, Pool(4), roi_size=(16, 16, 12), overlap=overlap)
    expected = F.avg_pool3d(F.pad(image, (0, 3, 0, 3, 0, 0)), 4)[0]
    assert got["dense"].shape == (1, 10, 10, 6)
    torch.testing.assert_close(got["dense"], expected)
    assert got["stride"].tolist() == [4, 4, 4]


def test_equals_a_naive_loop_over_windows(image: Tensor, encoder: Encoder) -> None:
    roi, stride = 32, 16
    image = F.pad(image, (0, 11, 0, 11, 0, 24))  # to 64 x 48 x 32, multiples of the stride
    total, count = torch.zeros(4, 4, 3, 2), torch.zeros(4, 3, 2)
    encoder.eval()
    for start in product((0, 16, 32), (0, 16), (0,)):
        box = tuple(slice(s, s + roi) for s in start)
        cells = tuple(slice(s // stride, s // stride + 2) for s in start)
        if bool((image[0, 0][box] > 0).any()):
            with torch.no_grad():
                total[(slice(None), *cells)] += encoder(image[0, 0][box][None, None])[0]
            count[cells] += 1
    got = embed_volume(image, encoder, roi_size=(roi,) * 3, overlap=0.25, sw_batch_size=4)
    torch.testing.assert_close(got["dense"], total / count.clamp(min=1))
    held = [
        got["dense"][:, i, j, k]
        for i, j, k in product(range(4), range(3), range(2))
        if bool((image[0, 0, 16 * i : 16 * i + 16, 16 * j : 16 * j + 16, 16 * k : 16 * k + 16] > 0).any())
    ]
    assert 1 < len(held) < 24
    torch.testing.assert_close(got["pooled"], torch.stack(held).mean(dim=0))


def test_agrees_with_monai_where_its_windows_fall_on_cells(encoder: Encoder) -> None:
    image = torch.rand(1, 1, 64, 64, 32, generator=torch.Generator().manual_seed(1)) + 0.1
    encoder.eval()
    with torch.no_grad():
        expected = SlidingWindowInferer((32, 32, 32), 2, 0.5)(image, encoder)
    got = embed_volume(image, encoder, roi_size=(32, 32, 32), overlap=0.5)
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(got["dense"], expected[0])


def test_a_single_window_is_the_encoder_itself(encoder: Encoder) -> None:
    image = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(2))
    got = embed_volume(image, encoder, roi_size=(32, 32, 32), foreground=torch.ones_like(image))
    encoder.eval()
    with torch.no_grad():
        expected = encoder(image)[0]
    torch.testing.assert_close(got["dense"], expected)
    torch.testing.assert_close(got["pooled"], expected.mean(dim=(1, 2, 3)))


def test_a_volume_smaller_than_the_window_is_padded_with_its_background() -> None:
    image = zscore_foreground(torch.rand(1, 1, 6, 9, 8, generator=torch.Generator().manual_seed(3)) + 1)
    got = embed_volume(image, Pool(4), roi_size=(16, 16, 16))
    padded = F.pad(image, (0, 0, 0, 3, 0, 2), value=float(image.min()))
    torch.testing.assert_close(got["dense"], F.avg_pool3d(padded, 4)[0])


def test_windows_of_background_are_skipped_and_do_not_reach_the_pooled_vector() -> None:
    image = torch.zeros(1, 1, 64, 16, 16)
    image[..., 2:7, 4:12, 4:12] = 1.0
    pool = Pool(8)
    got = embed_volume(image, pool, roi_size=(16, 16, 16), overlap=0.0)
    assert pool.calls == 1
    torch.testing.assert_close(got["pooled"], got["dense"][:, 0].mean(dim=(1, 2)))
    torch.testing.assert_close(got["dense"][:, 2:], torch.zeros(1, 6, 2, 2))
    everywhere = embed_volume(image, pool, roi_size=(16, 16, 16), overlap=0.0, foreground=torch.ones_like(image))
    assert pool.calls == 1 + 4
    torch.testing.assert_close(everywhere["pooled"], image.mean().reshape(1))


def test_leaves_the_encoder_as_it_was_and_runs_it_without_dropout(image: Tensor, encoder: Encoder) -> None:
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    first, second = (embed_volume(image, encoder, roi_size=(32, 32, 32)) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert encoder.training
    assert not first["dense"].requires_grad
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("make", "roi", "expected"),
    [
        (lambda: Encoder(features=(1, 1, 1, 1, 2)), (32, 48, 64), (16, 16, 16)),
        (lambda: ViTEncoder(32, 16, hidden_size=12, mlp_dim=8, num_layers=4, num_heads=2), (32, 32, 32), (16,) * 3),
        (lambda: nn.Sequential(nn.Conv3d(1, 2, 3, (2, 4, 1), 1), nn.BatchNorm3d(2)), (8, 8, 8), (2, 4, 1)),
    ],
    ids=["conv", "vit", "anisotropic"],
)
def test_stride_is_found(
    make: Callable[[], nn.Module], roi: tuple[int, int, int], expected: tuple[int, int, int]
) -> None:
    encoder = make()
    assert encoder_stride(encoder, roi) == expected
    with torch.no_grad():
        shape = encoder.eval()(torch.zeros(1, 1, *roi)).shape[2:]
    assert tuple(r // n for r, n in zip(roi, shape, strict=True)) == expected


def test_zscore_keeps_background_on_the_same_affine_map() -> None:
    raw = torch.zeros(2, 1, 6, 6, 6)
    raw[..., 1:5] = torch.rand(2, 1, 6, 6, 4, generator=torch.Generator().manual_seed(4)) * 300 + 50
    got = zscore_foreground(MetaTensor(raw, affine=2 * torch.eye(4)))
    for before, after in zip(raw, got.as_subclass(Tensor), strict=True):
        tissue = before[before > 0].double()
        mean, deviation = tissue.mean(), tissue.std(correction=0)
        torch.testing.assert_close(after.double(), (before.double() - mean) / deviation, rtol=1e-4, atol=1e-5)
    assert isinstance(got, MetaTensor)
    torch.testing.assert_close(got.affine, 2 * torch.eye(4, dtype=torch.float64))


def test_scaling_the_image_does_not_change_its_embedding(image: Tensor, encoder: Encoder) -> None:
    first, second = (
        embed_volume(zscore_foreground(scale * image[:, :, :32, :32]), encoder, roi_size=(32, 32, 32))
        for scale in (1, 700)
    )
    torch.testing.assert_close(first["pooled"], second["pooled"], rtol=1e-3, atol=1e-4)
    assert float(first["pooled"].abs().max()) > 0.01


def test_inferer_embeds_each_image_of_a_batch(image: Tensor) -> None:
    batch = torch.cat([image, image.flip(2)])
    got = EmbeddingInferer((8, 16, 16), overlap=0.5)(batch, Pool(4))
    alone = embed_volume(batch[1:], Pool(4), roi_size=(8, 16, 16), overlap=0.5)
    assert set(got) == {"pooled", "dense", "stride"}
    for key, value in alone.items():
        torch.testing.assert_close(got[key][1], value)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"image": torch.zeros(1, 4, 8, 8, 8)}, r"must be \(1, 1, I, J, K\), got \(1, 4, 8, 8, 8\)"),
        ({"image": torch.full((1, 1, 8, 8, 8), torch.nan)}, "512 NaN or Inf voxels"),
        ({"image": torch.ones(1, 1, 8, 8, 8)}, "no foreground"),
        ({"foreground": torch.ones(1, 1, 8, 8, 8)}, "does not fit the image"),
        ({"roi_size": (10, 16, 16)}, r"gives features of \(2, 4, 4\) cells: make it a multiple"),
        ({"roi_size": (16, 16, 2)}, r"cannot take windows of roi_size \(16, 16, 2\), change it: .*smaller"),
        ({"roi_size": (16, 16)}, "three roi_size"),
        ({"overlap": 1.0}, "overlap < 1"),
    ],
    ids=["channels", "nan", "constant", "mask", "roi", "tiny roi", "roi length", "overlap"],
)
def test_bad_input_is_refused(image: Tensor, change: dict[str, object], match: str) -> None:
    given = {"image": image, "roi_size": (16, 16, 16)} | change
    with pytest.raises(InputError, match=match):
        embed_volume(encoder=Pool(4), **given)  # type: ignore[arg-type]


def test_an_image_without_positive_voxels_is_refused() -> None:
    with pytest.raises(InputError, match="no voxel above 0"):
        zscore_foreground(torch.zeros(1, 8, 8, 8))
