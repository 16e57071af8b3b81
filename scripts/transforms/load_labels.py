"""Labels of an image: tissue maps of SPM or a mask, checked, as one integer per voxel."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.io.read import read_volume
from scripts.io.resample import is_same_grid, to_grid

__all__ = ["LoadLabelsd", "labels_of_probabilities"]

_ROUNDING = 0.02  # SPM writes probabilities as integers of 1/255
_SCALING = 1e-3  # labels that are stored with a slope may miss their whole number by this


def labels_of_probabilities(maps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the most probable class of each voxel: 0 background, k the k-th map.

    The background has what the maps leave of 1; a tie goes to the lower class.

    Args:
        maps: (K, I, J, K') probabilities.

    Returns:
        (I, J, K') uint8.
    """
    background = np.clip(1.0 - maps.sum(axis=0), 0.0, 1.0)
    return np.concatenate([background[None], maps]).argmax(axis=0).astype(np.uint8)


class LoadLabelsd(MapTransform):
    """Replace the path of a label volume, or the list of its probability maps, by labels (1, I, J, K) uint8.

    They come on the grid of the loaded image. Probability maps become the most probable class.

    Args:
        keys: of the labels.
        classes: value -> name of each class but the background, 0.
        image_key: of the image, loaded before.
        resample: bring labels that lie on another grid to the image's, by nearest neighbour (a mask drawn on
            another modality of the session); False refuses them.
        required: values that have to occur.
    """

    def __init__(
        self,
        keys: KeysCollection,
        classes: Mapping[Any, str],
        *,
        image_key: str = "image",
        resample: bool = False,
        required: Sequence[int] = (),
    ) -> None:
        super().__init__(keys)
        self.classes = {int(value): str(name) for value, name in classes.items()}
        self.image_key = image_key
        self.resample = resample
        self.required = tuple(int(value) for value in required)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load and check.

        Raises:
            InputError: an unreadable file, values that are no class or no probability, another grid, a map of
                zeros, labels without background, or a required class that does not occur (in the labels as they
                were drawn).
        """
        loaded = dict(data)
        image: MetaTensor = loaded[self.image_key]
        for key in self.key_iterator(loaded):
            source = loaded[key]
            is_maps = isinstance(source, (list, tuple))
            labels, path = self._probabilities(source) if is_maps else self._mask(source)
            if bool(labels.all()):
                raise InputError(f"{path} leaves no voxel to the background: correct it, or leave the subject out")
            for value in self.required:
                if not bool((labels == value).any()):
                    raise InputError(f"{path} marks no {self.classes[value]}: correct it, or leave the subject out")
            loaded[key] = self._on_grid(labels, image, path)
        return loaded

    def _mask(self, path: str) -> tuple[MetaTensor, str]:
        voxels, affine = read_volume(path)
        found = np.unique(voxels)
        whole = found.round()
        strange = found[~np.isin(whole, [0, *self.classes]) | (abs(found - whole) > _SCALING)]
        if strange.size:
            shown = ", ".join(f"{value:g}" for value in strange[:3])
            names = ", ".join(f"{value} {name}" for value, name in sorted(self.classes.items()))
            raise InputError(f"{path} holds the label values {shown}: write 0 background, {names}")
        return _volume(voxels.round().astype(np.uint8), affine, path), str(path)

    def _probabilities(self, paths: Sequence[str]) -> tuple[MetaTensor, str]:
        read = [read_volume(path) for path in paths]
        for (voxels, affine), path in zip(read, paths, strict=True):
            if voxels.min() < -_ROUNDING or voxels.max() > 1 + _ROUNDING:
                reach = f"{voxels.min():.3g} to {voxels.max():.3g}"
                raise InputError(f"{path} holds values from {reach}: write probabilities from 0 to 1")
            if voxels.shape != read[0][0].shape or not np.allclose(affine, read[0][1], atol=1e-3):
                raise InputError(f"{path} lies on another grid than {Path(paths[0]).name}: bring them to one")
        for (voxels, _), path, (_, name) in zip(read, paths, sorted(self.classes.items()), strict=True):
            if not voxels.any():
                raise InputError(f"{path} marks no {name}: correct it, or leave the subject out")
        maps = np.stack([voxels for voxels, _ in read])
        total = float(maps.sum(axis=0).max())
        if total > 1 + len(maps) * _ROUNDING:
            raise InputError(f"{paths[0]} and its fellows add up to {total:.3g}: write probabilities that sum to 1")
        return _volume(labels_of_probabilities(maps), read[0][1], paths[0]), str(paths[0])

    def _on_grid(self, labels: MetaTensor, image: MetaTensor, path: str) -> MetaTensor:
        if is_same_grid(labels, image.affine, image.shape[1:], tolerance=0.1 * float(image.pixdim.min())):
            return labels
        if not self.resample:
            name = image.meta.get("filename_or_obj", "the image")
            raise InputError(f"{path} lies on another grid than {name}: reslice it to the image, by nearest neighbour")
        moved = to_grid(labels, image.affine, image.shape[1:], "nearest")
        if bool(labels.any()) and not bool(moved.any()):
            name = image.meta.get("filename_or_obj", "the image")
            raise InputError(f"{path} does not overlap {name}: check that both lie in one world, or register them")
        return moved


def _volume(voxels: NDArray[np.uint8], affine: NDArray[np.float64], path: str | Path) -> MetaTensor:
    values = torch.from_numpy(np.ascontiguousarray(voxels)[None])
    return MetaTensor(values, affine=torch.from_numpy(affine), meta={"filename_or_obj": str(path)})
