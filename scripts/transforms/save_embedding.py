"""Writing of embeddings: one vector per volume, and feature maps that lie right in world space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.transforms.transform import Transform
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from scripts.io.files import atomic_write
from scripts.transforms.output_names import OutputNames

__all__ = ["SaveEmbedding", "feature_affine", "save_embedding"]


def feature_affine(affine: ArrayLike, stride: Sequence[int]) -> NDArray[np.float64]:
    """Return the affine of a feature map whose cell 0 covers voxels 0 .. stride - 1 of an image.

    The centre of cell c lies at voxel c * stride + (stride - 1) / 2.

    Args:
        affine: (4, 4) voxel to world of the image [mm].
        stride: (3,) voxels per cell.

    Returns:
        (4, 4) cell to world [mm].
    """
    to_voxel = np.eye(4)
    to_voxel[:3, :3] = np.diag(stride)
    to_voxel[:3, 3] = (np.asarray(stride, dtype=float) - 1) / 2
    return np.asarray(np.asarray(affine, dtype=np.float64) @ to_voxel)


def save_embedding(
    pooled: Tensor,
    dense: Tensor,
    *,
    affine: ArrayLike,
    stride: Sequence[int],
    output_dir: str | Path,
    name: str,
    source: str = "",
) -> tuple[Path, Path]:
    """Write ``<name>_embedding.npz`` and ``<name>_features.nii.gz`` and return their paths.

    The npz holds ``embedding`` (C,) float32, ``source`` and ``stride``; the NIfTI is 4D, (i, j, k, C) float32.
    Each file appears whole or not at all.

    Args:
        pooled: (C,).
        dense: (C, i, j, k).
        affine: (4, 4) voxel to world of the embedded image [mm].
        stride: (3,) voxels per cell.
        output_dir: folder, made if missing.
        name: start of the file names.
        source: file that was embedded.
    """
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    vector_path, map_path = folder / f"{name}_embedding.npz", folder / f"{name}_features.nii.gz"
    vector, features = _numpy(pooled), np.moveaxis(_numpy(dense), 0, -1)
    image = nib.Nifti1Image(features, feature_affine(affine, stride))
    image.header.set_xyzt_units("mm")
    atomic_write(vector_path, lambda path: np.savez(path, embedding=vector, source=source, stride=np.asarray(stride)))
    atomic_write(map_path, lambda path: nib.save(image, path))
    return vector_path, map_path


class SaveEmbedding(Transform):
    """Save what `scripts.inferers.embedding` returned for one volume, under the name of its file.

    In: a dictionary with the image, a `MetaTensor` (1, I, J, K) that knows its file and affine, and the
    embedding, a mapping with ``pooled``, ``dense`` and ``stride``. Out: the same with ``embedding_file`` and
    ``features_file`` added.

    Args:
        output_dir: folder to write to.
        data_root_dir: where set, folders of the image below it are kept below ``output_dir``.
        image_key: key of the image.
        embedding_key: key of the embedding.
    """

    def __init__(
        self,
        output_dir: str,
        *,
        data_root_dir: str = "",
        image_key: str = "image",
        embedding_key: str = "pred",
    ) -> None:
        self.names = OutputNames(output_dir, data_root_dir)
        self.image_key = image_key
        self.embedding_key = embedding_key

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Write the two files of one volume.

        Raises:
            InputError: the image does not know its file, lies outside ``data_root_dir``, or would overwrite
                what another image of this run wrote.
        """
        image, embedding = data[self.image_key], data[self.embedding_key]
        source, target = self.names.claim(image, self.image_key)
        paths = save_embedding(
            embedding["pooled"],
            embedding["dense"],
            affine=image.affine.cpu().numpy(),
            stride=[int(length) for length in embedding["stride"]],
            output_dir=target.parent,
            name=target.name,
            source=source,
        )
        return {**data, "embedding_file": str(paths[0]), "features_file": str(paths[1])}


def _numpy(values: Tensor) -> NDArray[np.float32]:
    """Return a tensor as a float32 array."""
    return np.asarray(values.detach().cpu().numpy(), dtype=np.float32)
