"""Images to work on, from what a user types: their list, and their voxels."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from scripts.errors import InputError
from scripts.io.dicom import list_series
from scripts.io.read import ENDINGS, read_header, read_volume

__all__ = ["LoadVolumed", "image_list"]


def image_list(images: str | Path | Sequence[str | Path] | None) -> list[dict[str, str]]:
    """Return ``[{"image": path}, ...]`` for a file, a folder or a list of these.

    A folder stands for its NIfTI, NRRD and MetaImage files, sorted; one without any, for the DICOM series in it.

    Raises:
        InputError: nothing given, a file that is missing or no 3D image, a folder without images or with several
            DICOM series.
    """
    if not images:
        raise InputError("no image given: type --image FILE, FOLDER or \"['a.nii.gz', 'b.nii.gz']\"")
    given = [Path(images)] if isinstance(images, (str, Path)) else [Path(image) for image in images]
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if _is_image(p))
            if not inside and not list_series(path):
                raise InputError(_told_empty(path))
            found += inside or [path]
        elif not path.is_file():
            raise InputError(f"{path} does not exist: check the path of the image")
        else:
            found.append(path)
    for path in found:
        read_header(path)
    return [{"image": str(path)} for path in found]


def _is_image(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS) and path.is_file()


def _told_empty(folder: Path) -> str:
    """Return what is wrong with a folder without images, and where some may be."""
    below = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and list_series(path)]
    if below:
        return (
            f"{folder} holds folders of DICOM series ({', '.join(below[:6])}): give the one to use, or a list of them"
        )
    return (
        f"{folder} holds no image ({', '.join(ENDINGS)}, or the files of a DICOM series): give the folder of the images"
    )


class LoadVolumed(MapTransform):
    """Replace the path of an image by its voxels: a `MetaTensor` (1, I, J, K), float32, in RAS+ order.

    Stands for monai's LoadImaged, EnsureChannelFirstd and Orientationd, whose errors do not tell the file. Meta data
    are ``filename_or_obj``, and, of the file's own grid, ``original_affine`` (4, 4) and ``spatial_shape`` (3,).

    Args:
        keys: of the paths.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load.

        Raises:
            InputError: see `scripts.io.read.read_volume`; also if no voxel is above 0.
        """
        loaded = dict(data)
        for key in self.key_iterator(loaded):
            path = loaded[key]
            own = read_header(path)
            voxels, affine = read_volume(path)
            if not np.any(voxels > 0):
                raise InputError(f"{path} holds no voxel above 0: give an image whose tissue is positive")
            meta = {
                "filename_or_obj": str(path),
                "original_affine": torch.from_numpy(own.affine),  # tensors, which caches read back
                "spatial_shape": torch.tensor(own.shape),
            }
            loaded[key] = MetaTensor(torch.from_numpy(voxels[None]), affine=torch.from_numpy(affine), meta=meta)
        return loaded
