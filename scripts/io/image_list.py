"""The images to work on, from what a user types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scripts.errors import InputError
from scripts.io.dicom import list_series
from scripts.io.read import ENDINGS, read_header

__all__ = ["find_images", "image_list"]


def image_list(images: str | Path | Sequence[str | Path] | None) -> list[dict[str, str]]:
    """Return ``[{"image": path}, ...]`` of `find_images`, after checking every header.

    Raises:
        InputError: as `find_images`; a file that is no 3D image, or a folder with several DICOM series.
    """
    found = find_images(images)
    for path in found:
        read_header(path)
    return [{"image": str(path)} for path in found]


def find_images(images: str | Path | Sequence[str | Path] | None) -> list[Path]:
    """Return the images that a file, a folder or a list of these stands for, without looking into them.

    A folder stands for its NIfTI, NRRD and MetaImage files, sorted; one without any, for the DICOM series in it.

    Raises:
        InputError: nothing given, a file that is missing, or a folder without images.
    """
    if not images:
        raise InputError("no image given: type --image FILE, FOLDER or \"['a.nii.gz', 'b.nii.gz']\"")
    given = [Path(images)] if isinstance(images, (str, Path)) else [Path(image) for image in images]
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.name.lower().endswith(ENDINGS) and p.is_file())
            if not inside and not list_series(path):
                raise InputError(_without_images(path))
            found += inside or [path]
        elif not path.is_file():
            raise InputError(f"{path} does not exist: check the path of the image")
        else:
            found.append(path)
    return found


def _without_images(folder: Path) -> str:
    """Return what is wrong with a folder without images, and where some may be."""
    below = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and list_series(path)]
    if below:
        return (
            f"{folder} holds folders of DICOM series ({', '.join(below[:6])}): give the one to use, or a list of them"
        )
    return (
        f"{folder} holds no image ({', '.join(ENDINGS)}, or the files of a DICOM series): give the folder of the images"
    )
