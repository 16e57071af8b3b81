"""Names of the files that are written for an image: two images never get the same."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from scripts.errors import InputError
from scripts.io.read import stem

__all__ = ["OutputNames", "safe_name"]

_LONGEST = 180  # bytes; what is added to a name leaves it below the 255 that file systems take


class OutputNames:
    """Finds where the files of an image go, and remembers which image it was.

    Args:
        output_dir: folder to write to.
        data_root_dir: where set, folders of the image below it are kept below ``output_dir``.

    Raises:
        InputError: ``output_dir`` is a file.
    """

    def __init__(self, output_dir: str | Path, data_root_dir: str | Path = "") -> None:
        if Path(output_dir).is_file():
            raise InputError(f"output_dir {output_dir} is a file: give a folder")
        self.output_dir = Path(output_dir)
        self.data_root_dir = str(data_root_dir)
        self._sources: dict[Path, str] = {}

    def claim(self, image: Any, key: str) -> tuple[str, Path]:
        """Return the file that ``image`` was read from, and the path that the names of its outputs start with.

        Args:
            image: a `MetaTensor` that knows its file.
            key: what the image is called in an error.

        Raises:
            InputError: the image does not know its file, lies outside ``data_root_dir``, or would overwrite
                what another image of this run wrote.
        """
        source = str(getattr(image, "meta", {}).get("filename_or_obj", ""))
        if not source:
            msg = f"{key} does not know its file: load it with LoadImaged(image_only=False) or as MetaTensor"
            raise InputError(msg)
        target = self._target(Path(source))
        if self._sources.setdefault(target, source) != source:
            msg = f"{source} and {self._sources[target]} would both be written as {target}_*: set data_root_dir"
            raise InputError(msg)
        return source, target

    def _target(self, source: Path) -> Path:
        if not self.data_root_dir:
            return self.output_dir / safe_name(stem(source))
        try:
            below = source.absolute().parent.relative_to(Path(self.data_root_dir).absolute())
        except ValueError:
            msg = (
                f"{source} does not lie in data_root_dir {self.data_root_dir}: set it to a folder that holds all images"
            )
            raise InputError(msg) from None
        return self.output_dir.joinpath(*map(safe_name, below.parts), safe_name(stem(source)))


def safe_name(name: str) -> str:
    r"""Return a name that every file system and table takes: itself, if it is one.

    Otherwise signs that cannot be printed become ``_``, and a long one is cut; some signs of its SHA-256 keep it apart
    from others.

    >>> safe_name("sub-01_T1w"), safe_name("two\nlines")
    ('sub-01_T1w', 'two_lines-edc8c128')
    """
    clean = "".join(sign if sign.isprintable() else "_" for sign in name)
    short = clean.encode()[:_LONGEST].decode(errors="ignore")
    if short == name and name not in ("", ".", ".."):
        return name
    return f"{short}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
