"""Files that are sent: images of known kinds that hold their own voxels, and DICOM."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Protocol

from scripts.errors import InputError
from scripts.label.values import check_name, shown

__all__ = ["IMAGE_ENDINGS", "Upload", "check_image", "check_session"]

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Of the images that are served, sent and given back."""

_HEADER = 1 << 20  # bytes that the text of a header may take
_PIECE = 1 << 20
_LONGEST = 220  # bytes of the last part of a path
_DATA_WORD = b"ElementDataFile"
_LOCAL = re.compile(rb"(?:\A|\n)ElementDataFile[ \t]*=[ \t]*(?:LOCAL|Local|local)[ \t]*\r?\n")


class Upload(Protocol):
    """A file as it came.

    Attributes:
        filename: as the client called it.
        file: its content.
    """

    @property
    def filename(self) -> str | None:
        """The client's name of it."""

    @property
    def file(self) -> BinaryIO:
        """Its content."""


def check_image(field: str, upload: Upload, *, named: bool = False) -> None:
    """Refuse a file that is no image that may be sent.

    Args:
        field: of the form.
        upload: its file; clients give its whole path, of which nothing but the ending is used.
        named: whether the image takes its name from the file's, which is then a plain one.

    Raises:
        InputError: it has another ending, no plain name, or voxels in another file.
    """
    given = upload.filename or ""
    name = re.split(r"[/\\]", given)[-1]
    if not name.endswith(IMAGE_ENDINGS):
        raise InputError(f"{field} {shown(name)} is no image that is taken: send {', '.join(IMAGE_ENDINGS)}")
    # MONAI Label's own file for it takes all that follows the first dot
    if named or not given.isprintable() or len(given.rpartition("/")[2].encode("utf-8", "replace")) > _LONGEST:
        check_name(field, given)
    if name.endswith(".mha"):
        _check_mha(name, upload.file)
    if name.endswith(".nrrd"):
        _check_nrrd(name, upload.file)


def check_session(field: str, uploads: Sequence[Upload]) -> None:
    """Refuse the files of a session that are neither one image nor those of a DICOM series.

    Raises:
        InputError: see `check_image`; another kind of file, or two of one name.
    """
    names = [upload.filename or "" for upload in uploads]
    for name, upload in zip(names, uploads, strict=True):
        check_name(field, name)
        if len(names) == 1 and name.endswith(IMAGE_ENDINGS):
            check_image(field, upload, named=True)
        elif name.endswith(IMAGE_ENDINGS) or not _is_dicom(name, upload.file):
            raise InputError(f"{field} {shown(name)} is not taken: send one image, or the DICOM files of one series")
        if names.count(name) > 1:
            raise InputError(f"{field} holds {shown(name)} twice: give each file a name of its own")


def _is_dicom(name: str, file: BinaryIO) -> bool:
    file.seek(0)
    mark = file.read(132)[128:]
    file.seek(0)
    return mark == b"DICM" or name.lower().endswith((".dcm", ".ima"))


def _check_mha(name: str, file: BinaryIO) -> None:
    """Refuse a MetaImage that does not say, in one place, that its voxels follow."""
    file.seek(0)
    head = file.read(_HEADER)
    local = _LOCAL.search(head)
    if local is None or b"\0" in head[: local.start()] or sum(_count(_DATA_WORD, file)) != 1:
        raise InputError(f"{shown(name)} has its voxels in another file, or says not where: save it as one file")


def _check_nrrd(name: str, file: BinaryIO) -> None:
    """Refuse an NRRD whose header names a file; a header ends with the first empty line."""
    file.seek(0)
    head, end, _ = file.read(_HEADER).partition(b"\n\n")
    file.seek(0)
    letters = re.sub(rb"[^a-z]", b"", head.lower())
    if not end or b"\r" in head or b"\0" in head or not head.startswith(b"NRRD000") or b"datafile" in letters:
        raise InputError(f"{shown(name)} has its voxels in another file, or no plain header: save it as one file")


def _count(word: bytes, file: BinaryIO) -> Iterator[int]:
    """Give how often a word stands in each piece of a file, whatever the case of its letters."""
    file.seek(0)
    kept = b""
    while piece := file.read(_PIECE):
        text = (kept + piece).lower()
        yield text.count(word.lower())
        kept = text[-len(word) + 1 :]
    file.seek(0)
