"""The download of ARC (OpenNeuro ds004884, version 1.0.2): the files of its index, by OpenNeuro's own client."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from scripts.errors import InputError
from scripts.io.files import atomic_write
from scripts.prepare.space import require_space

__all__ = ["ARC_DATASET", "ARC_INDEX", "ARC_TAG", "ArcSession", "fetch_arc", "read_index"]

ARC_DATASET = "ds004884"
ARC_TAG = "1.0.2"
"""The release: 1.0.1 has masks on other grids than their T2w."""

ARC_INDEX = Path(__file__).parent / "arc_index_v1.0.2.csv"
"""Images of the sessions with a lesion mask, taken from the file list of the release."""

_IMAGE_SIZE = 3_250_000  # bytes, on average: 2.42 GB in 745 images
_METADATA = ("dataset_description.json", "participants.tsv")
_DONE = f".{ARC_DATASET}-{ARC_TAG}.json"


@dataclass(frozen=True)
class ArcSession:
    """The session of a subject's lesion mask; paths are relative to the root of the dataset.

    Attributes:
        sub: name of the subject, such as sub-M2001.
        ses: name of the session, such as ses-1253.
        mask: the lesion mask.
        t2w: T2-weighted images, of which one bears the mask's name.
        t1w: T1-weighted images, none or some.
        flair: FLAIR images, none or some.
    """

    sub: str
    ses: str
    mask: str
    t2w: tuple[str, ...]
    t1w: tuple[str, ...]
    flair: tuple[str, ...]

    def images(self) -> tuple[str, ...]:
        """Return the mask and all images."""
        return (self.mask, *self.t2w, *self.t1w, *self.flair)


def read_index(path: Path | None = None) -> list[ArcSession]:
    """Return the sessions of an index, one row each: sub, ses, mask, t2w, t1w, flair; several are parted by ``;``.

    Args:
        path: CSV file; by default that of version 1.0.2.

    Raises:
        InputError: if it is missing or has no such columns.
    """
    path = path or ARC_INDEX
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            return [
                ArcSession(
                    row["sub"],
                    row["ses"],
                    row["mask"],
                    _several(row["t2w"]),
                    _several(row["t1w"]),
                    _several(row["flair"]),
                )
                for row in csv.DictReader(lines)
            ]
    except (OSError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is no index with the columns sub, ses, mask, t2w, t1w, flair") from error


def fetch_arc(folder: Path, *, index: Path | None = None, progress: bool = True, retries: int = 5) -> Path:
    """Download what a folder lacks of ARC: masks, images and their sidecars of an index; return the folder.

    Files that are there are compared with OpenNeuro's by size and MD5, those that broke off go on. Once all is
    there, a note ``.ds004884-1.0.2.json`` of their sizes spares further calls every request. A clone made by
    DataLad is left alone, as its content is fetched by DataLad.

    Args:
        folder: root of the dataset; made where needed.
        index: see `read_index`.
        progress: whether to show bars with speed and time left.
        retries: of a request that failed.

    Raises:
        InputError: if openneuro-py is missing, the disk is too small, the folder holds something else, or files
            did not come.
    """
    images = [image for session in read_index(index) for image in session.images()]
    if _is_complete(folder, images):
        return folder
    absent = [image for image in images if not (folder / image).is_file()]
    if (folder / ".git").exists():
        if not absent:
            return folder
        raise InputError(
            f"{folder} is a DataLad clone that lacks {len(absent)} of {len(images)} images: type 'datalad get' there, "
            "or give another folder for the download"
        )
    require_space(folder, len(absent) * _IMAGE_SIZE, "the download of ARC")
    tqdm.write(f"ARC: {len(images)} images of {ARC_DATASET} {ARC_TAG} into {folder}, {len(absent)} are not there yet")
    _download(folder, images, progress=progress, retries=retries)
    files = [*_METADATA, *images, *(sidecar for image in images if (folder / (sidecar := _sidecar(image))).is_file())]
    sizes = {name: (folder / name).stat().st_size for name in sorted(files) if (folder / name).is_file()}
    lacking = [image for image in images if image not in sizes]
    if lacking:
        raise InputError(f"{folder / lacking[0]} did not come: type the same command again")
    text = json.dumps(sizes, indent=1) + "\n"
    atomic_write(folder / _DONE, lambda path: path.write_text(text, encoding="utf-8"))
    return folder


def _download(folder: Path, images: Sequence[str], *, progress: bool, retries: int) -> None:
    try:
        import openneuro
    except ImportError as error:
        raise InputError(
            "the download of ARC needs openneuro-py: pip install -e '.[prepare]', or fetch ds004884 another way"
        ) from error
    patterns = [f"/{name}" for name in _METADATA]
    patterns += [f"/{image.removesuffix('.nii.gz')}.*" for image in images]  # with its sidecar
    with _listening() as failures, contextlib.redirect_stderr(sys.stderr if progress else io.StringIO()):
        try:
            openneuro.download(
                dataset=ARC_DATASET,
                tag=ARC_TAG,
                target_dir=folder,
                include=patterns,
                max_retries=retries,
                metadata_timeout=120.0,  # the list names some 13000 files
                source="openneuro",
            )
        except Exception as error:  # the client raises what its own libraries raise
            raise InputError(_failure(folder, error, failures)) from error


def _failure(folder: Path, error: Exception, failures: Sequence[str]) -> str:
    reason = str(error).strip().splitlines()
    said = reason[0] if reason else type(error).__name__
    if isinstance(error, FileExistsError) or "DatasetDOI" in said or "appears to be different" in said:
        return f"{folder} holds another dataset or release than {ARC_DATASET} {ARC_TAG}: give another folder ({said})"
    if failures:
        files = "1 file" if len(failures) == 1 else f"{len(failures)} files"
        return (
            f"{files} of ARC did not come, the first: {failures[0]}; what has come lies in {folder}, "
            "the same command goes on from there"
        )
    return f"OpenNeuro did not give ARC ({type(error).__name__}: {said}): try again later, what has come is kept"


@contextlib.contextmanager
def _listening() -> Iterator[list[str]]:
    """Gather the client's messages on files that failed, which else fill the screen with a page for each."""
    failures: list[str] = []
    begin = "Failed to download "

    def gather(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        at = text.find(begin)
        if at >= 0 and ": " in text:
            failures.append(text[at + len(begin) :].strip())
        return False

    logger = logging.getLogger("openneuro")
    logger.addFilter(gather)
    try:
        yield failures
    finally:
        logger.removeFilter(gather)


def _is_complete(folder: Path, images: Sequence[str]) -> bool:
    """Tell whether an earlier download ended well and its files have kept their sizes."""
    try:
        sizes = json.loads((folder / _DONE).read_text(encoding="utf-8"))
        return set(images) <= set(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def _several(cell: str) -> tuple[str, ...]:
    return tuple(filter(None, cell.split(";")))


def _sidecar(image: str) -> str:
    return image.removesuffix(".nii.gz") + ".json"
