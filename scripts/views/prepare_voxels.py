"""Views, their maps, and the voxels that a voxel-wise loss compares, where MONAI's engines prepare a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scripts.errors import InputError
from scripts.ranks import rank
from scripts.views.draw import generator_for
from scripts.views.generator import ViewGenerator
from scripts.views.prepare_maps import PrepareMapViews
from scripts.views.voxel_places import draw_places, stride_of

__all__ = ["PrepareVoxelViews"]

# so that the places of a step and its views never share a stream
_PLACES = 3


class PrepareVoxelViews(PrepareMapViews):
    """Turn a batch of map regions into views of one geometry an anatomy, targets, and places to compare them at.

    Args:
        views: generator of the views, with `shared_geometry`.
        levels: names of feature maps that end with their stride, such as ``decoder_1``.
        voxels: places of each anatomy and level.
        seed: of the views, where it is not that of the generator.

    Raises:
        InputError: views of different geometry, a level of no stride that fits, or fewer than two voxels.

    Examples:
        >>> maps = torch.tensor([70.0, 0.9, 17.0, 1.55]).view(1, 4, 1, 1, 1).expand(2, 4, 20, 20, 20)
        >>> views = ViewGenerator(patch_size=16, shared_geometry=True)
        >>> batch = {"maps": maps, "step": torch.zeros(2)}
        >>> image, targets, _, more = PrepareVoxelViews(views, ["decoder_1", "encoder_8"], 256)(batch, "cpu")
        >>> {level: tuple(index.shape) for level, index in more["voxels"].items()}
        {'decoder_1': (2, 256), 'encoder_8': (2, 8)}
    """

    def __init__(self, views: ViewGenerator, levels: Sequence[str], voxels: int = 256, seed: int | None = None) -> None:
        super().__init__(views, seed)
        if not views.shared_geometry:
            raise InputError("views: voxels of two views are paired by their place; set shared_geometry to true")
        if voxels < 2:
            raise InputError(f"contrast_voxels is {voxels}: a voxel needs another to be told from, give 2 or more")
        self.voxels = voxels
        self.strides = {level: stride_of(level, views.patch_size) for level in levels}

    def __call__(  # type: ignore[override]
        self, batch: dict[str, Any], device: torch.device | str | None, non_blocking: bool = False, **more: Any
    ) -> tuple[Tensor, dict[str, Any], tuple[()], dict[str, Any]]:
        """Return views, targets, and what else the network is called with.

        The targets are those of `PrepareMapViews` and, by level, ``position`` (B, K, 3) and ``valid`` (B, K) of
        `VoxelPlaces`; the network gets ``voxels``, level -> (B, K) indices. B anatomies, which the views share.
        """
        image, targets = super().__call__(batch, device, non_blocking, **more)
        head = targets["mask"][: len(batch["maps"])]
        key = (_PLACES, self.views.seed, int(batch["step"][0]), rank())
        generator = torch.Generator(head.device).manual_seed(generator_for(*key).initial_seed())
        places = {level: draw_places(head, stride, self.voxels, generator) for level, stride in self.strides.items()}
        position = {level: drawn.position for level, drawn in places.items()}
        valid = {level: drawn.valid for level, drawn in places.items()}
        index = {level: drawn.index for level, drawn in places.items()}
        return image, {**targets, "position": position, "valid": valid}, (), {"voxels": index}
