"""Which sizes of a patch an encoder takes."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.errors import InputError

__all__ = ["check_patch"]


def check_patch(size: Sequence[int], stride: int) -> None:
    """Raise an `InputError` if images of a size (I, J, K) do not fit an encoder.

    Args:
        size: of the images [voxels].
        stride: input voxels per bottleneck cell along an axis; a normalisation over space needs two cells.

    Examples:
        >>> check_patch((96, 96, 96), stride=16)
    """
    if any(side % stride or side < 2 * stride for side in size):
        raise InputError(
            f"patch of {'x'.join(map(str, size))} voxels: every side must be a multiple of "
            f"{stride} and at least {2 * stride}; set the patch size to 96 or another such number"
        )
