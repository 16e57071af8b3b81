from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scripts.views import ViewGenerator

PATCH = 24


@pytest.fixture
def maps() -> Tensor:
    """Three anatomies of blobs with brain-like values, 0 outside, at the region size of a 24-voxel patch."""
    side = ViewGenerator(patch_size=PATCH).region_size
    generator = torch.Generator().manual_seed(3)
    axis = torch.linspace(-1, 1, side)
    radius = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2).sqrt()
    texture = torch.nn.functional.interpolate(
        torch.rand((3, 4, 6, 6, 6), generator=generator),
        size=(side,) * 3,
        mode="trilinear",
        align_corners=True,
    )
    low = torch.tensor([65.0, 0.3, 3.0, 0.1]).view(1, 4, 1, 1, 1)
    high = torch.tensor([100.0, 1.1, 25.0, 1.7]).view(1, 4, 1, 1, 1)
    return (low + (high - low) * texture) * (radius < 1.2)
