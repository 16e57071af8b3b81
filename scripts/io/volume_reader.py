"""Our readers in the form that monai's LoadImage takes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from monai.config import PathLike
from monai.data import MetaTensor
from monai.data.image_reader import ImageReader
from monai.transforms import LoadImage, Orientation

from scripts.errors import InputError
from scripts.io.read import read_stored

__all__ = ["VolumeReader", "load_volume"]


class VolumeReader(ImageReader):
    """Read one volume as `scripts.io.read` does, for ``LoadImaged(keys, reader=VolumeReader())``.

    Args:
        nan: what to do with voxels that are NaN or infinite, see `scripts.io.read.read_stored`.

    The file is opened in `get_data`, once: what `read` raises, LoadImage swallows to try readers of its own.

    Meta data: ``affine`` (4, 4) [mm]; of the file's own grid, which later transforms leave, ``original_affine``
    (4, 4), ``spatial_shape`` (3,) and ``place``, the bytes of `scripts.io.header.ImageHeader.place`.
    """

    def __init__(self, *, nan: Literal["error", "zero"] = "error") -> None:
        super().__init__()
        if nan not in ("error", "zero"):
            raise InputError(f"nan={nan!r} is unknown: choose error, or zero to set such voxels to 0")
        self.nan = nan
        # LoadImage also makes readers of its own, one of which, where pydicom is installed, warns and logs of a decoder
        # on GPUs
        warnings.filterwarnings("ignore", "NvImgCodecPydicomReader: nvImageCodec decoder plugin did not", UserWarning)
        logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:  # noqa: ARG002 - monai's signature
        """Return True: what cannot be read is told when it is read."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **_: Any) -> Path:
        """Return the path of the image."""
        return Path(str(data if isinstance(data, (str, Path)) else next(iter(data))))

    def get_data(self, img: Path) -> tuple[np.ndarray, dict[str, Any]]:
        """Return the voxels (I, J, K) in the order of the file, float32, and the meta data.

        Raises:
            InputError: see `scripts.io.read.read_stored`; also if no voxel is above 0.
        """
        header, voxels = read_stored(img, nan=self.nan)
        if not np.any(voxels > 0):
            raise InputError(f"{img} holds no voxel above 0: give an image whose tissue is positive")
        return voxels, {
            "affine": header.affine,
            "original_affine": torch.from_numpy(header.affine),  # tensors, which caches read back
            "spatial_shape": torch.tensor(header.shape),
            "original_channel_dim": "no_channel",
            "place": torch.frombuffer(bytearray(header.place), dtype=torch.uint8),
        }


def load_volume(path: str | Path) -> MetaTensor:
    """Return an image (1, I, J, K), float32, in RAS+ order, as the configs' LoadImaged and Orientationd do.

    Raises:
        InputError: see `VolumeReader.get_data`.
    """
    image = LoadImage(reader=VolumeReader(), ensure_channel_first=True)(path)
    turned: MetaTensor = Orientation("RAS", labels=None)(image)
    return turned
