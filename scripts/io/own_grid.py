"""Bringing results back to the grid of the file they were computed from, and writing them there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor

from scripts.io.files import atomic_write
from scripts.io.nifti import NiftiHeader
from scripts.io.read import is_nifti, read_header
from scripts.io.resample import to_grid

__all__ = ["onto", "write_like"]

_TOLERANCE = 0.01  # voxels
_PLACE = [f"quatern_{axis}" for axis in "bcd"] + [f"qoffset_{axis}" for axis in "xyz"]
_PLACE += [f"srow_{axis}" for axis in "xyz"] + ["qform_code", "sform_code", "xyzt_units"]


def onto(volume: MetaTensor, header: NiftiHeader, mode: Literal["nearest", "bilinear"]) -> Tensor:
    """Return ``volume`` on the grid of a file; 0 outside its own extent.

    Where the voxels of both grids coincide (axes swapped, flipped or cut), values are moved and none is changed.

    Args:
        volume: (C, I, J, K) with its voxel-to-world matrix in `MetaTensor.affine`.
        header: of the file, shape (X, Y, Z).
        mode: how values are interpolated where they have to be.

    Returns:
        (C, X, Y, Z) of the dtype of ``volume``, on the CPU.
    """
    values = volume.detach().as_subclass(Tensor).cpu()
    affine = volume.affine.double().cpu().numpy()
    between = np.linalg.inv(affine) @ header.affine
    turn, shift = np.rint(between[:3, :3]), np.rint(between[:3, 3])
    ends = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(header.shape) - 1)
    apart = np.abs(ends @ (between[:3, :3] - turn).T + between[:3, 3] - shift).max()
    if apart < _TOLERANCE and np.array_equal(turn @ turn.T, np.eye(3)):
        return _moved(values, turn.astype(int), shift.astype(int), header.shape)
    parts = [to_grid(MetaTensor(part[None], affine=affine), header.affine, header.shape, mode) for part in values]
    return torch.cat([part.as_subclass(Tensor) for part in parts])


def _moved(values: Tensor, turn: NDArray[Any], shift: NDArray[Any], shape: tuple[int, ...]) -> Tensor:
    """Return values (C, I, J, K) with voxel ``turn @ x + shift`` at voxel x of a grid of ``shape``, else 0."""
    axes = np.abs(turn).argmax(axis=0)
    signs = turn[axes, range(3)]
    values = values.permute(0, *(int(axis) + 1 for axis in axes))
    values = values.flip([axis + 1 for axis in range(3) if signs[axis] < 0])
    moved = values.new_zeros(len(values), *shape)
    there: list[slice] = [slice(None)]
    here: list[slice] = [slice(None)]
    for axis, n in enumerate(values.shape[1:]):
        offset = int(shift[axes[axis]])
        first = -offset if signs[axis] > 0 else offset - (n - 1)
        start, stop = max(first, 0), max(min(first + n, shape[axis]), max(first, 0))
        there.append(slice(start, stop))
        here.append(slice(start - first, stop - first))
    moved[tuple(there)] = values[tuple(here)]
    return moved


def write_like(source: str | Path, path: Path, values: NDArray[Any]) -> Path:
    """Write voxels as a NIfTI file that lies exactly as ``source`` does; it appears whole or not at all.

    Its qform, sform, their codes and its units are those of the source; nothing else of its header is kept, so
    that no description or extension with personal data comes along.

    Args:
        source: image of shape (X, Y, Z). If it is no NIfTI file, its place becomes the sform, code 1 (scanner), and
            the qform.
        path: file to write, .nii or .nii.gz.
        values: (X, Y, Z) or (X, Y, Z, C), written in their dtype.
    """
    if not is_nifti(source):
        placed = nib.Nifti1Image(values, None)
        placed.header.set_xyzt_units("mm")
        affine = read_header(source).affine
        placed.set_sform(affine, code=1)
        placed.set_qform(affine, code=1)
        return atomic_write(path, lambda part: nib.save(placed, part))
    image = nib.load(source)
    header = type(image.header)()
    for field in _PLACE:
        header[field] = image.header[field]
    header["pixdim"][:4] = image.header["pixdim"][:4]
    header.set_data_dtype(values.dtype)
    header.set_data_shape(values.shape)
    written = type(image)(values, image.affine, header)
    return atomic_write(path, lambda part: nib.save(written, part))
