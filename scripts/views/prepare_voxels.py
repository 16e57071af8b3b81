"""Views, their maps, and the places that a voxel-wise loss compares, where MONAI's engines prepare a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scripts.errors import InputError
from scripts.physics.transfer import to_device
from scripts.ranks import rank
from scripts.views.draw import generator_for
from scripts.views.generator import ViewGenerator
from scripts.views.prepare_maps import PrepareMapViews
from scripts.views.voxel_places import crop_views, draw_places

__all__ = ["PrepareVoxelViews"]

_CROPS, _PLACES = 3, 4  # last words of the seeds, so that no two draws share a stream


class PrepareVoxelViews(PrepareMapViews):
    """Turn a batch of map regions into views whose voxels can be paired, their targets, and places to compare.

    The views of an anatomy are made in one geometry, ``shift`` voxels wider than a patch, and each is then cut out
    at an offset of its own, 0 to ``shift`` along each axis. The places of an anatomy lie in a box of ``shift``
    voxels. So where in a patch a voxel lies, which a network knows from the padding at its faces and from its
    strides, does not tell a place from the others. Without, a network pairs voxels of unrelated noise.

    Args:
        views: generator of views of `shared_geometry`, of ``patch_size`` + shift voxels.
        patch_size: side of the patches [voxels]; the rest is the shift. Without a shift, places lie anywhere.
        voxels: places of each anatomy.
        seed: of the views, where it is not that of the generator.

    Raises:
        InputError: views of different geometry or smaller than a patch, or fewer than two places.

    Examples:
        >>> maps = torch.tensor([70.0, 0.9, 17.0, 1.55]).view(1, 4, 1, 1, 1).expand(2, 4, 28, 28, 28)
        >>> prepare = PrepareVoxelViews(ViewGenerator(patch_size=24, shared_geometry=True), patch_size=16)
        >>> image, targets, _, more = prepare({"maps": maps, "step": torch.zeros(2)}, "cpu")
        >>> tuple(image.shape), tuple(targets["position"].shape), tuple(more["voxels"].shape)
        ((4, 1, 16, 16, 16), (2, 256, 3), (4, 256, 3))
    """

    def __init__(self, views: ViewGenerator, patch_size: int, voxels: int = 256, seed: int | None = None) -> None:
        super().__init__(views, seed)
        if not views.shared_geometry:
            raise InputError("views: voxels of two views are paired by their place; set shared_geometry to true")
        if voxels < 2:
            raise InputError(f"contrast_voxels is {voxels}: a voxel needs another to be told from, give 2 or more")
        if views.patch_size < patch_size:
            raise InputError(f"crop_shift is {views.patch_size - patch_size}: views are as wide as a patch at least")
        self.patch_size = patch_size
        self.voxels = voxels

    def __call__(  # type: ignore[override]
        self, batch: dict[str, Any], device: torch.device | str | None, non_blocking: bool = False, **more: Any
    ) -> tuple[Tensor, dict[str, Tensor], tuple[()], dict[str, Tensor]]:
        """Return views, targets, and what else the network is called with.

        The targets are those of `PrepareMapViews`, and ``position`` (B, K, 3) and ``valid`` (B, K) of `VoxelPlaces`;
        the network gets ``voxels`` (N, K, 3), the same places in the voxels of each of the N = V * B views.
        """
        image, targets = super().__call__(batch, device, non_blocking, **more)
        batch_size, key = len(batch["maps"]), (self.views.seed, int(batch["step"][0]), rank())
        shift = self.views.patch_size - self.patch_size
        offset = torch.randint(shift + 1, (len(image), 3), generator=generator_for(*key, _CROPS))
        by_view = offset.view(-1, batch_size, 3)
        first, last = by_view.amax(0), by_view.amin(0) + self.patch_size - 1
        head = targets["mask"][:batch_size]
        places = draw_places(
            head,
            to_device(first, head.device),
            to_device(last, head.device),
            shift or self.patch_size,
            self.voxels,
            torch.Generator(head.device).manual_seed(generator_for(*key, _PLACES).initial_seed()),
        )
        own = places.position.repeat(self.views.n_views, 1, 1) - to_device(offset[:, None], head.device)
        cut = {name: crop_views(target, offset, self.patch_size) for name, target in targets.items()}
        cut.update(position=places.position, valid=places.valid)
        return crop_views(image, offset, self.patch_size), cut, (), {"voxels": own}
