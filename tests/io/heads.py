"""Small heads in files, and files with other bytes in their headers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name that its own pages use

SHAPE = (24, 28, 20)
SPACING = (4.0, 4.0, 5.0)  # mm: 96 x 112 x 100 mm

Edit = Callable[[bytearray], object]


def voxels() -> np.ndarray:
    return np.random.default_rng(3).integers(1, 1000, SHAPE).astype(np.float32)


def nifti(path: Path, edit: Edit | None = None, values: np.ndarray | None = None) -> Path:
    """Write a head as .nii, and change bytes of its header."""
    image = nib.Nifti1Image(voxels() if values is None else values, np.diag([*SPACING, 1.0]))
    image.set_sform(image.affine, 1)
    image.set_qform(image.affine, 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    if edit is not None:
        content = bytearray(path.read_bytes())
        edit(content)
        path.write_bytes(content)
    return path


def put(kind: str, at: int, value: float) -> Edit:
    """Return an edit that writes a number of a `struct` kind at a byte."""
    return lambda content: struct.pack_into(f"<{kind}", content, at, value)


def both(*edits: Edit) -> Edit:
    return lambda content: [edit(content) for edit in edits]


def itk(path: Path) -> Path:
    """Write a head in the format of the path's ending."""
    image = sitk.GetImageFromArray(voxels().transpose())
    image.SetSpacing(SPACING)
    sitk.WriteImage(image, str(path))
    return path


def replace_line(path: Path, key: str, line: str | None) -> Path:
    """Give a line that begins with a key in the text of a NRRD or MetaImage file another content, or none."""
    lines = path.read_bytes().split(b"\n")
    at = next(n for n, found in enumerate(lines) if found.startswith(key.encode()))
    lines[at : at + 1] = [] if line is None else [line.encode()]
    path.write_bytes(b"\n".join(lines))
    return path
