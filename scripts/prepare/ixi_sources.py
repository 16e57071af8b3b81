"""Where the files of IXI lie: unpacked in folders, or in the tar files of the download."""

from __future__ import annotations

import hashlib
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.data.ixi import MODALITIES
from scripts.errors import InputError

__all__ = ["Source", "Subject", "find_sources", "find_tars", "only_one"]

_IMAGE = re.compile(r"(IXI\d{3}-(?:Guys|HH|IOP)-\d{4})-(T1|T2|PD)\.nii(\.gz)?")
_MAP = re.compile(r"c([123])(?:p_)?(IXI\d{3}-(?:Guys|HH|IOP)-\d{4})-(T1|T2|PD)\.nii(\.gz)?")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Source:
    """Where the bytes of a file lie: a file of its own, or from ``offset`` on within a tar file."""

    path: Path
    name: str
    size: int
    offset: int | None = None

    def __str__(self) -> str:
        """Return the file's name as a user finds it."""
        return str(self.path) if self.offset is None else f"{self.name} in {self.path}"

    @property
    def ending(self) -> str:
        """``.nii`` or ``.nii.gz``."""
        return ".nii.gz" if self.name.endswith(".gz") else ".nii"

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes, piece by piece.

        Raises:
            InputError: if they end early.
        """
        left = self.size
        with self.path.open("rb") as stream:
            stream.seek(self.offset or 0)
            while left > 0:
                piece = stream.read(min(left, _CHUNK))
                if not piece:
                    raise InputError(f"{self} is cut off: copy or download {self.path.name} again")
                left -= len(piece)
                yield piece

    def copy(self, target: Path) -> None:
        """Write the bytes to a file."""
        if self.offset is None:
            shutil.copyfile(self.path, target)
            return
        with target.open("wb") as stream:
            for piece in self.chunks():
                stream.write(piece)


@dataclass
class Subject:
    """What there is of one subject: of each image (T1, T2, PD) and of its tissue maps all places where it lies."""

    images: dict[str, list[Source]] = field(default_factory=dict)
    maps: dict[str, dict[int, list[Source]]] = field(default_factory=dict)

    def inputs(self) -> dict[str, int]:
        """Return name -> size [bytes] of each file; names do not tell the folder, which may be moved."""
        of_maps = (sources for kinds in self.maps.values() for sources in kinds.values())
        every = [source for sources in (*self.images.values(), *of_maps) for source in sources]
        return {f"{number} {source.name}": source.size for number, source in enumerate(sorted(every, key=str), start=1)}


def find_tars(folder: Path) -> dict[str, Path]:
    """Return the tar files of the download, by kind (T1, T2, PD), at any depth of ``folder``; the first by name."""
    found: dict[str, Path] = {}
    for kind in MODALITIES.values():
        choices = sorted(path for path in folder.rglob(f"IXI-{kind}.tar") if path.is_file())
        if choices:
            found[kind] = choices[0]
    return found


def find_sources(folder: Path, labels: Path | None = None) -> dict[str, Subject]:
    """Return the subjects of a folder, sorted by name.

    Args:
        folder: holds ``IXI-T1.tar``, ``IXI-T2.tar``, ``IXI-PD.tar`` or the files that they hold, at any depth.
        labels: holds tissue maps of SPM, ``c1IXI002-Guys-0828-T1.nii.gz`` and so on; by default they are looked
            for in ``folder``.

    Raises:
        InputError: if a folder is missing, a tar file is damaged, or nothing is found.
    """
    if labels is not None and not labels.is_dir():
        raise InputError(f"labels {labels} is no folder: give the one that holds the c1, c2 and c3 maps")
    found: dict[str, Subject] = {}
    for tar in find_tars(folder).values():
        _note(_members(tar), found)
    _note(_files([folder] if labels is None else [folder, labels]), found)
    found = {name: found[name] for name in sorted(found) if found[name].images}
    if not found:
        raise InputError(
            f"{folder} holds neither IXI-T1.tar, IXI-T2.tar or IXI-PD.tar nor files named as IXI's "
            "(IXI002-Guys-0828-T1.nii.gz): give another --source, or add --download"
        )
    return found


def only_one(sources: Sequence[Source]) -> Source:
    """Return the first of several places of one file, if their bytes are the same.

    Raises:
        InputError: if they differ.
    """
    first, *others = sources
    for other in others:
        if other.size != first.size or _digest(other) != _digest(first):
            raise InputError(f"{first} and {other} are two different files of one image: remove the wrong one")
    return first


def _digest(source: Source) -> str:
    digest = hashlib.sha256()
    for piece in source.chunks():
        digest.update(piece)
    return digest.hexdigest()


def _files(folders: Sequence[Path]) -> list[Source]:
    paths = sorted({path for folder in folders for path in folder.rglob("*IXI*.nii*")})
    return [Source(path, path.name, path.stat().st_size) for path in paths if path.is_file()]


def _members(tar: Path) -> list[Source]:
    size = tar.stat().st_size
    try:
        with tarfile.open(tar, "r:") as archive:
            members = [
                Source(tar, Path(member.name).name, member.size, member.offset_data)
                for member in archive
                if member.isfile()
            ]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{tar} is no tar file, cut off or damaged ({error}): download it again") from error
    if not members or any((source.offset or 0) + source.size > size for source in members):
        raise InputError(f"{tar} is cut off ({size} bytes, {len(members)} files): download it again")
    return members


def _note(sources: Sequence[Source], found: dict[str, Subject]) -> None:
    for source in sources:
        if image := _IMAGE.fullmatch(source.name):
            found.setdefault(image[1], Subject()).images.setdefault(image[2], []).append(source)
        elif map_ := _MAP.fullmatch(source.name):
            kinds = found.setdefault(map_[2], Subject()).maps.setdefault(map_[3], {})
            kinds.setdefault(int(map_[1]), []).append(source)
