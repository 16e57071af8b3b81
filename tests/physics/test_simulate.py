from __future__ import annotations

import pytest
import torch

from scripts.errors import InputError
from scripts.physics import SEQUENCES, default_protocol, simulate

SHAPE = (3, 4, 5, 6, 7)


@pytest.fixture
def maps() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    low, high = torch.tensor([[60, 0.2, 2, 0], [100, 1.2, 40, 2.0]])[:, None, :, None, None, None]
    return low + (high - low) * torch.rand(SHAPE, generator=generator)


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_every_sequence_gives_positive_images_of_the_shape_of_the_maps(maps: torch.Tensor, sequence: str) -> None:
    images = simulate(maps, [default_protocol(sequence)] * 3)
    assert images.shape == (3, 1, 5, 6, 7)
    assert (images > 0).all()


def test_counts_that_do_not_fit_are_one_line(maps: torch.Tensor) -> None:
    with pytest.raises(InputError, match="2 protocols for 3 samples"):
        simulate(maps, [default_protocol("fse")] * 2)
