"""Writing NIfTI files beside those that they belong to: on the same voxels, or the same voxels at another place."""

from __future__ import annotations

import gzip
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.io.nifti import read_header
from scripts.io.write import Placement, write_nifti

__all__ = ["SHARE_STEP", "move_volume", "write_shares"]

SHARE_STEP = 1 / 255
"""Value of one integer step of a map of shares, as SPM stores them."""


def write_shares(path: Path, shares: NDArray[np.float32], image: Path) -> None:
    """Write a map of shares, 0 to 1, on the stored voxels of an image, in steps of 1/255.

    Shares are rounded down, so that several that add up to 1 do not exceed it.

    Args:
        path: file to write, .nii.gz.
        shares: (I, J, K) in RAS+ order, as `scripts.io.nifti.read_volume` returns the image.
        image: the image.
    """
    affine = read_header(image).affine
    stored = np.floor(shares * np.float32(255.0) + np.float32(1e-3)).clip(0, 255).astype(np.uint8)
    back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.io_orientation(affine))
    write_nifti(path, nib.apply_orientation(stored, back), Placement(affine), step=SHARE_STEP)


def move_volume(source: Path, target: Path, matrix: NDArray[np.float64]) -> None:
    """Write a volume at another place of the world: its voxels stay as they are, byte for byte.

    Args:
        source: .nii or .nii.gz.
        target: file to write, .nii.gz.
        matrix: (4, 4) rigid, from the world of the source to that of the target [mm].

    Raises:
        InputError: if the source is cut off or damaged.
    """
    affine = matrix @ read_header(source).affine
    try:
        content = gzip.decompress(source.read_bytes()) if source.suffix == ".gz" else source.read_bytes()
    except (OSError, EOFError) as error:
        raise InputError(f"{source} is cut off or damaged ({error}): copy it again") from error
    kind = nib.Nifti2Header if int.from_bytes(content[:4], "little") == 540 else nib.Nifti1Header
    header: Any = kind.from_fileobj(BytesIO(content), check=False)
    header.set_sform(affine, code="aligned")
    header.set_qform(affine, code="aligned")
    block = header.binaryblock
    with target.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as file:
        file.write(block + content[len(block) :])
