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

from scripts.data.nifti import read_header, read_volume
from scripts.errors import InputError

__all__ = ["LoadVolumed", "image_list"]

ENDINGS = (".nii", ".nii.gz")


def image_list(images: str | Path | Sequence[str | Path] | None) -> list[dict[str, str]]:
    """Return ``[{"image": path}, ...]`` for a file, a folder (its NIfTI files, sorted) or a list of files.

    Raises:
        InputError: nothing given, a file that is missing or no 3D NIfTI, or a folder without NIfTI files.
    """
    if not images:
        raise InputError("no image given: type --image FILE, FOLDER or \"['a.nii.gz', 'b.nii.gz']\"")
    given = [Path(images)] if isinstance(images, (str, Path)) else [Path(image) for image in images]
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.name.endswith(ENDINGS))
            if not inside:
                raise InputError(f"{path} holds no .nii or .nii.gz file: give the folder of the images")
            found += inside
        elif not path.is_file():
            raise InputError(f"{path} does not exist: check the path of the image")
        elif not path.name.endswith(ENDINGS):
            raise InputError(f"{path} is no NIfTI file: convert it to .nii or .nii.gz")
        else:
            found.append(path)
    for path in found:
        read_header(path)
    return [{"image": str(path)} for path in found]


class LoadVolumed(MapTransform):
    """Replace the path of a NIfTI volume by its voxels: a `MetaTensor` (1, I, J, K), float32, in RAS+ order.

    Stands for monai's LoadImaged, EnsureChannelFirstd and Orientationd, whose errors do not tell the file.

    Args:
        keys: of the paths.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load.

        Raises:
            InputError: see `scripts.data.nifti.read_volume`; also if no voxel is above 0.
        """
        loaded = dict(data)
        for key in self.key_iterator(loaded):
            path = loaded[key]
            voxels, affine = read_volume(path)
            if not np.any(voxels > 0):
                raise InputError(f"{path} holds no voxel above 0: give an image whose tissue is positive")
            meta = {"filename_or_obj": str(path)}
            loaded[key] = MetaTensor(torch.from_numpy(voxels[None]), affine=torch.from_numpy(affine), meta=meta)
        return loaded
