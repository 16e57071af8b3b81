"""Whether maps explain an image: exact where they do, the variance of what is added where they do not."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.errors import InputError
from scripts.physics import Protocol, default_protocol, load_prior, simulate, typical_protocols
from scripts.physics.refit import candidate_protocols, refit
from scripts.physics.rendering import render

SIDE = 32


@dataclass(frozen=True)
class Head:
    maps: Tensor  # (4, I, J, K)
    mask: Tensor  # (1, I, J, K)


@pytest.fixture(scope="module")
def head() -> Head:
    """A ball of smoothly mixed white matter, grey matter and fluid."""
    axis = torch.linspace(-1, 1, SIDE)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    coarse = torch.randn(1, 3, 6, 6, 6, generator=torch.Generator().manual_seed(3))
    shares = (2 * F.interpolate(coarse, size=(SIDE,) * 3, mode="trilinear")[0]).softmax(0)
    tissues = torch.tensor([[70.0, 0.95, 21.0, 1.5], [80.0, 0.62, 17.0, 0.85], [100.0, 0.24, 2.0, 0.03]])
    mask = (x**2 + y**2 + z**2 < 0.9)[None]
    return Head(torch.einsum("tc,tijk->cijk", tissues, shares) * mask, mask)


def show(head: Head, protocol: Protocol) -> Tensor:
    return render(head.maps, protocol)


ALL = list(typical_protocols().values())[:6]  # without MP2RAGE


@pytest.mark.parametrize("protocol", ALL, ids=str)
def test_the_right_protocol_explains_all_whatever_gain_offset_and_smooth_bias(head: Head, protocol: Protocol) -> None:
    first = (SIDE - 1) / 2  # places of cells of one voxel span -1 to 1 over the ball
    axis = (torch.arange(SIDE) - first) / first
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    bias = 1 + 0.2 * x - 0.1 * y * z + 0.15 * z * z
    found = refit(40 * show(head, protocol) * bias - 3, head.maps, head.mask, ALL, cell=1, most=3000)
    assert found.residual < 1e-8
    assert found.protocol == protocol


def test_the_residual_is_the_share_of_noise(head: Head) -> None:
    """White noise of variance v has v / 64 in cells of 64 voxels, of which the fit takes 11 of n degrees of freedom."""
    protocol = default_protocol("gre")
    clean = show(head, protocol)
    sigma = 3 * float(clean[head.mask].std())
    full = F.avg_pool3d(head.mask[None].float(), 4) == 1
    cells = F.avg_pool3d(clean[None], 4)[full]
    only_full = F.interpolate(full.float(), scale_factor=4)[0]
    share = sigma**2 / 64 / (sigma**2 / 64 + float(cells.var(correction=0)))
    noise = torch.randn((12, *clean.shape), generator=torch.Generator().manual_seed(0))
    found = [refit(clean + sigma * one, head.maps, only_full, [protocol], cell=4).residual for one in noise]
    assert sum(found) / len(found) == pytest.approx(share * (1 - 11 / len(cells)), rel=0.1)


def test_unit_and_offset_of_the_image_change_nothing(head: Head) -> None:
    image = show(head, default_protocol("fse")) + torch.rand(
        head.mask.shape, generator=torch.Generator().manual_seed(1)
    )
    first, second = (refit(one, head.maps, head.mask, ALL) for one in (image, 1e4 * image - 700))
    assert first.protocol == second.protocol
    assert first.residual == pytest.approx(second.residual, rel=1e-3)


def test_spin_echoes_may_have_decayed_with_r2star(head: Head) -> None:
    """As those that a network learnt from, where the maps had no R2."""
    protocol = default_protocol("flair")
    image = simulate(head.maps[None], [protocol], r2_from="r2star")[0]
    assert (image - show(head, protocol)).abs().max() > 0.1
    assert refit(image, head.maps, head.mask, [protocol]).residual < 1e-8


def test_an_inverted_contrast_is_no_fit(head: Head) -> None:
    protocol = default_protocol("mprage")
    image = 10 - show(head, protocol)
    assert refit(image, head.maps, head.mask, [protocol]).residual == 1
    assert refit(10 - image, head.maps, head.mask, [protocol]).residual < 1e-6


def test_an_image_of_something_else_is_not_explained(head: Head) -> None:
    coarse = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(8))
    image = F.interpolate(coarse, size=(SIDE,) * 3, mode="trilinear")[0]
    candidates = candidate_protocols(load_prior("paper"), each=8)
    assert refit(image, head.maps, head.mask, candidates).residual > 0.7
    assert refit(show(head, default_protocol("flair")), head.maps, head.mask, candidates).residual < 0.02


def test_candidates_are_the_same_each_time_and_of_all_sequences() -> None:
    prior = load_prior("paper")
    first = candidate_protocols(prior, each=3)
    assert first == candidate_protocols(prior, each=3)
    assert [one.sequence for one in first] == [*prior, *(name for name in prior for _ in range(3))]
    assert candidate_protocols(prior, each=3, seed=1)[4:] != first[4:]


@pytest.mark.parametrize("image", ["small", "constant"])
def test_what_shows_no_fit_is_refused(head: Head, image: str) -> None:
    mask = head.mask.clone()
    mask[:, 16:] &= image == "constant"
    mask[:, :, 16:] &= image == "constant"
    values = torch.ones(mask.shape) if image == "constant" else show(head, ALL[0])
    with pytest.raises(InputError, match=r"^refit: \d+ cells of 16 voxels of head|^refit: \d+ cells of 4 voxels"):
        refit(values, head.maps, mask, ALL, cell=16 if image == "small" else 4)
