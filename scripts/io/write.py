"""Writing of NIfTI, JSON and text: a file appears whole or not at all, and has the same bytes for the same content."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from scripts.io.files import atomic_write
from scripts.io.nifti import parse_header, read_content
from scripts.io.read import read_header

__all__ = ["SHARE_STEP", "move_volume", "write_json", "write_like", "write_nifti", "write_shares", "write_text"]

SHARE_STEP = 1 / 255
"""Value of one integer step of a map of shares, as SPM stores them."""


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    atomic_write(path, lambda part: part.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file."""
    write_text(path, json.dumps(content, indent=4) + "\n")


def write_nifti(
    path: Path,
    volume: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    step: float | None = None,
    code: Literal["scanner", "aligned"] = "scanner",
) -> None:
    """Write integers as NIfTI-1, gzipped at level 1 without time or name.

    Args:
        path: file to write, .nii.gz.
        volume: (I, J, K), stored integers.
        affine: (4, 4) voxel to world [mm], of any orientation and spacing.
        step: value of one integer step; None for labels.
        code: what the world is, of sform and qform.
    """
    header = nib.Nifti1Header()
    header.set_data_dtype(volume.dtype)
    header.set_data_shape(volume.shape)
    header.set_sform(affine, code=code)
    header.set_qform(affine, code=code)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1.0 if step is None else step, 0.0)
    header["vox_offset"] = 352
    _write_gzip(path, header.binaryblock + b"\0" * 4, np.asfortranarray(volume).reshape(-1, order="F").data)


def write_shares(path: Path, shares: NDArray[np.float32], image: Path) -> None:
    """Write a map of shares, 0 to 1, on the stored voxels of an image, in steps of 1/255.

    Shares are rounded down, so that several that add up to 1 do not exceed it.

    Args:
        path: file to write, .nii.gz.
        shares: (I, J, K) in RAS+ order, as `scripts.io.read.read_volume` returns the image.
        image: the image.
    """
    affine = read_header(image).affine
    stored = np.floor(shares * np.float32(255.0) + np.float32(1e-3)).clip(0, 255).astype(np.uint8)
    back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.io_orientation(affine))
    write_nifti(path, nib.apply_orientation(stored, back), affine, step=SHARE_STEP)


def move_volume(source: Path, target: Path, matrix: NDArray[np.float64]) -> None:
    """Write a NIfTI volume at another place of the world: its voxels stay as they are, byte for byte.

    Args:
        source: .nii or .nii.gz.
        target: file to write, .nii.gz.
        matrix: (4, 4) rigid, from the world of the source to that of the target [mm].

    Raises:
        InputError: if the source cannot be read in full.
    """
    content = read_content(source)
    affine = matrix @ read_header(source).affine
    kind = type(parse_header(source, content))
    header = kind(content[: kind.sizeof_hdr], check=False)
    header.set_sform(affine, code="aligned")
    header.set_qform(affine, code="aligned")
    block = header.binaryblock
    _write_gzip(target, block + content[len(block) :])


def write_like(path: Path, values: NDArray[Any], place: bytes) -> Path:
    """Write voxels as a NIfTI file that lies exactly as another image does.

    Its qform, sform, their codes and its units are those of the image; nothing else of its header is kept, so
    that no description or extension with personal data comes along.

    Args:
        path: file to write, .nii or .nii.gz.
        values: (X, Y, Z) or (X, Y, Z, C), written in their dtype.
        place: `scripts.io.header.ImageHeader.place` of the image, whose shape is (X, Y, Z).
    """
    header = parse_header(path, place)
    header.set_data_dtype(values.dtype)
    header.set_data_shape(values.shape)
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(values, header.get_best_affine(), header)
    return atomic_write(path, lambda part: nib.save(image, part))


def _write_gzip(path: Path, *parts: Any) -> None:
    def write(part: Path) -> None:
        with part.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as file:
            for content in parts:
                file.write(content)

    atomic_write(path, write)
