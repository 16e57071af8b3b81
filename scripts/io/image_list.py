"""The images to work on, from what a user types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scripts.errors import InputError
from scripts.io.dicom import list_series
from scripts.io.fetched import check_fetched
from scripts.io.header import check_head_size
from scripts.io.read import ENDINGS, read_header, stem
from scripts.switches import is_on

__all__ = ["find_images", "image_list"]


def image_list(
    images: str | Path | Sequence[str | Path] | None, *, any_size: bool | str = False
) -> list[dict[str, str]]:
    """Return ``[{"image": path}, ...]`` of `find_images`, after checking every header.

    Args:
        images: see `find_images`.
        any_size: True takes images that are too small or too large for a head, such as slabs, a part of a brain,
            phantoms or animals; also a word, see `scripts.switches.is_on`.

    Raises:
        InputError: as `find_images`; a file that is no 3D image, or a folder with several DICOM series; an image that
            is not of the size of a head.
    """
    any_size = is_on(any_size, "any_size")
    found = find_images(images)
    for path in found:
        header = read_header(path)
        if not any_size:
            check_head_size(header)
    return [{"image": str(path)} for path in found]


def find_images(images: str | Path | Sequence[str | Path] | None) -> list[Path]:
    """Return the images that a file, a folder or a list of these stands for, without looking into them.

    A folder stands for its NIfTI, NRRD and MetaImage files, sorted; one without any, for the DICOM series in it.

    Raises:
        InputError: nothing given, a file that is missing or a pointer to one, a folder without images, or an image
            without a name before its ending.
    """
    if not images:
        raise InputError("no image given: type --image FILE, FOLDER or \"['a.nii.gz', 'b.nii.gz']\"")
    given = [Path(images)] if isinstance(images, (str, Path)) else [Path(image) for image in images]
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file() or file.is_symlink())
            inside = [file for file in files if file.name.lower().endswith(ENDINGS) and not file.is_dir()]
            if not inside and not list_series(path):
                for file in files:
                    check_fetched(file)
                raise InputError(_without_images(path))
            found += inside or [path]
        else:
            check_fetched(path, "check the path of the image")
            found.append(path)
    nameless = next((path for path in found if not stem(path)), None)
    if nameless is not None:
        raise InputError(f"{nameless} has no name before its ending: rename it")
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
