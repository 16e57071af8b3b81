"""Lists of images to work on, from what a user types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scripts.errors import InputError

__all__ = ["image_list"]

ENDINGS = (".nii", ".nii.gz")


def image_list(images: str | Path | Sequence[str | Path] | None) -> list[dict[str, str]]:
    """Return ``[{"image": path}, ...]`` for a file, a folder (its NIfTI files, sorted) or a list of files.

    Raises:
        InputError: nothing given, a file that is missing or no NIfTI, or a folder without NIfTI files.
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
    return [{"image": str(path)} for path in found]
