"""What the text that a NRRD or MetaImage file begins with says, where SimpleITK would take it on trust or assume it.

Such a text may name another file as that of the voxels. Only one in the same folder is read, so that no image that
somebody sent reads what lies elsewhere. And it may leave out the voxel size, which SimpleITK takes for 1 mm then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from scripts.errors import InputError

__all__ = ["TextHeader", "read_text_header"]

_LONGEST = 1 << 16  # bytes
_SPACES = {"ras", "las", "lps", "right-anterior-superior", "left-anterior-superior", "left-posterior-superior"}
_META_SIZES, _META_TURNS = ("ElementSpacing", "ElementSize"), ("TransformMatrix", "Rotation", "Orientation")


@dataclass(frozen=True)
class TextHeader:
    """Where the voxels of an image lie.

    Attributes:
        file: of the voxels.
        n_bytes: that they take there.
        raw: whether they are neither compressed nor written in digits.
        fault: what is wrong with the place of the image in the world, empty if nothing is.
    """

    file: Path
    n_bytes: int
    raw: bool
    fault: str


def read_text_header(path: Path) -> TextHeader:
    """Return where the voxels of a NRRD or MetaImage file lie.

    Raises:
        InputError: a text that names a file outside of the folder, several files or one that is missing.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_LONGEST)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its rights") from error
    nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    found = _nrrd(path, start) if nrrd else _meta_image(path, start)
    if found is None:
        raise InputError(f"{path} cannot be read as {path.suffix[1:].upper()}: copy or export it again")
    return found


def _meta_image(path: Path, start: bytes) -> TextHeader | None:
    named = [match.strip().decode("latin-1") for match in re.findall(rb"(?i)ElementDataFile\s*[=:]?([^\r\n]*)", start)]
    end = re.search(rb"(?im)^[ \t]*ElementDataFile[^\n]*\n?", start)
    if end is None:
        return None
    text = start[: end.end()].decode("latin-1")
    fields = dict(re.findall(r"(?m)^[ \t]*(\w+)[ \t]*[=:][ \t]*([^\r\n]*?)[ \t\r]*$", text))
    spacing = next((fields[name] for name in _META_SIZES if name in fields), "missing")
    fault = _other_unit(path, [fields.get("DistanceUnits", "")])
    if not _positive(spacing):
        fault = _unplaced(path, f"no voxel size (ElementSpacing: {spacing})")
    elif not any(name in fields for name in _META_TURNS):
        fault = _unplaced(path, "no orientation (TransformMatrix: missing)")
    binary, packed = (fields.get(name, "").lower() in ("true", "1") for name in ("BinaryData", "CompressedData"))
    files = [_beside(path, name) for name in named if name.lower() != "local"]
    return _found(path, files, end.end(), raw=binary and not packed, fault=fault)


def _nrrd(path: Path, start: bytes) -> TextHeader | None:
    head = re.match(rb"NRRD.*?(\r?\n\r?\n|\Z)", start, re.DOTALL)
    if head is None or (head.end() == _LONGEST and not head[1]):
        return None
    text = head[0].decode("latin-1")
    lines = re.findall(r"(?m)^[ \t]*([^#:\r\n][^:\r\n]*):(?!=)([^\r\n]*)", text)
    fields = {key.lower().replace(" ", ""): value.strip() for key, value in lines}
    fault = _other_unit(path, re.findall(r'"([^"]*)"', fields.get("spaceunits", "")))
    if "spacedirections" not in fields:
        fault = _unplaced(path, "no voxel size and orientation (space directions: missing)")
    elif fields.get("space", "").lower().removesuffix("-time") not in _SPACES:
        fault = _unplaced(path, f"no anatomical orientation (space: {fields.get('space', 'missing')})")
    files = [_beside(path, name.strip()) for name in re.findall(r"(?i)data\s*file\s*:([^\r\n]*)", text)]
    return _found(path, files, head.end(), raw=fields.get("encoding", "").lower() == "raw", fault=fault)


def _beside(path: Path, name: str) -> Path:
    """Return the file that a text names as that of its voxels, which has to lie in the folder of the text."""
    plain = name.removeprefix("./")
    if not plain or plain in (".", "..") or "\0" in plain or set(plain) & set('/\\"'):
        raise InputError(
            f"{path} takes its voxels from {name[:200]!r}, outside of its folder: "
            "export it as one file, or name a file beside it"
        )
    if "%" in plain or plain.split()[0].upper() == "LIST":
        raise InputError(f"{path} takes its voxels from several files ({name[:200]!r}): export it as one file")
    file = path.parent / plain
    if not file.is_file():
        raise InputError(f"{path} takes its voxels from {plain}, which does not lie beside it: copy that too")
    return file


def _found(path: Path, files: list[Path], header: int, *, raw: bool, fault: str) -> TextHeader:
    if len(set(files)) > 1:
        raise InputError(f"{path} takes its voxels from several files: export it as one file")
    if files:
        return TextHeader(files[0], files[0].stat().st_size, raw, fault)
    return TextHeader(path, path.stat().st_size - header, raw, fault)


def _positive(words: str) -> bool:
    try:
        values = [float(word) for word in words.split()]
    except ValueError:
        return False
    return bool(values) and all(0 < value < float("inf") for value in values)


def _unplaced(path: Path, lack: str) -> str:
    return f"{path} says {lack}: export it again, with its voxel size in mm and its orientation"


def _other_unit(path: Path, units: list[str]) -> str:
    other = next((unit for unit in units if unit.strip().lower() not in ("", "?", "mm", "millimeter")), None)
    return "" if other is None else f"{path} is in {other!r}, not in mm: export it again, with its voxel size in mm"
