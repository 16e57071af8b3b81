"""Writing of volumes that lie exactly as the files that they were computed from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import ensure_tuple_rep

from scripts.errors import InputError
from scripts.io.write import write_like
from scripts.transforms.output_names import OutputNames

__all__ = ["SaveVolumed"]


class SaveVolumed(MapTransform):
    """Write volumes as ``<output_dir>/<name of the image's file>_<output_postfix>.nii.gz``, each whole or not at all.

    The name of the written file is added as ``<key>_file``. Not SaveImaged: it keeps neither qform, codes and units
    of the image's file, nor two images of one name apart.

    Args:
        keys: of volumes (C, X, Y, Z) on the grid of the file, see `scripts.transforms.own_grid.ToOwnGridd`; one of
            several channels is written as (X, Y, Z, C).
        output_dir: folder to write to.
        output_postfix: end of the name, one for all keys or one each.
        output_dtype: of the stored voxels.
        data_root_dir: where set, folders of the image below it are kept below ``output_dir``.
        allow_missing_keys: pass over keys that a sample lacks.

    Raises:
        InputError: ``output_dir`` is a file.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        *,
        output_postfix: str | Sequence[str],
        output_dtype: str = "float32",
        data_root_dir: str | Path = "",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.names = OutputNames(output_dir, data_root_dir)
        self.postfixes = ensure_tuple_rep(output_postfix, len(self.keys))
        self.dtype = np.dtype(output_dtype)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write.

        Raises:
            InputError: the image does not know its file, or would overwrite what another image of this run wrote;
                or values are beyond those of ``output_dtype``.
        """
        saved = dict(data)
        for key, postfix in self.key_iterator(saved, self.postfixes):
            volume = saved[key]
            source, target = self.names.claim(volume, key)
            values = volume.detach().cpu().numpy()
            if self.dtype.kind in "iu" and values.max() > np.iinfo(self.dtype).max:
                raise InputError(
                    f"{source}: {values.max():g} is beyond {self.dtype}: set output_dtype to a larger type"
                )
            stored = np.ascontiguousarray(values[0] if len(values) == 1 else np.moveaxis(values, 0, -1), self.dtype)
            place = bytes(volume.meta["place"].numpy())
            path = target.with_name(f"{target.name}_{postfix}.nii.gz")
            saved[f"{key}_file"] = str(write_like(path, stored, place))
        return saved
