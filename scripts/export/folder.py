"""The exported folder: made beside its place, checked, and put there whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bundles import ROOT
from scripts.errors import InputError
from scripts.export.card import model_card
from scripts.export.describe import MODEL_TYPE, describe
from scripts.export.formats import FORMATS, chosen_formats, largest_difference
from scripts.export.source import Source, read_source

__all__ = ["Export", "export_encoder"]

_LICENSE = ROOT / "LICENSE"


@dataclass(frozen=True)
class Export:
    """An exported folder, its config, and the largest difference of each file's features from the network's."""

    folder: Path
    config: Mapping[str, Any]
    differences: Mapping[str, float]

    def __str__(self) -> str:
        training = self.config["training"]
        about = f"{training['variant']}, {training['cohort']} cohort, {training['epochs'] or 'unknown'} epochs"
        lines = [f"{self.folder}: encoder of widths {', '.join(map(str, self.config['features']))} ({about})"]
        for file, difference in self.differences.items():
            size = (self.folder / file).stat().st_size / 1e6
            lines.append(f"  {file:18s} {size:7.1f} MB  largest difference from the network {difference:.1e}")
        lines.append("  config.json, README.md (the model card), LICENSE")
        lines.append(f"From weights of SHA-256 {training['source_sha256']}")
        return "\n".join(lines)


def export_encoder(formats: str | Sequence[str], out: str | Path, weights: str | Path | None = None) -> Export:
    """Write an encoder as a folder for other programs; each file is read back and compared before it is there.

    The same weights give the same bytes. A failed export leaves nothing behind.

    Args:
        formats: names of `FORMATS`, joined by commas or a sequence.
        out: folder to make; an earlier export there is replaced.
        weights: see `scripts.export.source.read_source`.

    Raises:
        InputError: an unknown format, a folder that holds other things, weights that are missing or unfit, or a
            file whose features differ from the network's.
    """
    names, out = chosen_formats(formats), Path(out)
    _check_place(out)
    source = read_source(weights)
    config = describe(source, names)
    with _appearing(out) as folder:
        differences = {FORMATS[name].file: _write(name, source, folder, config) for name in names}
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (folder / "config.json").write_text(text, encoding="utf-8")
        (folder / "README.md").write_text(model_card(config), encoding="utf-8")
        shutil.copyfile(_LICENSE, folder / "LICENSE")
    return Export(out, config, differences)


def _write(name: str, source: Source, folder: Path, config: Mapping[str, Any]) -> float:
    """Write one format and return the largest difference of what is read back."""
    chosen = FORMATS[name]
    path = folder / chosen.file
    chosen.write(source.encoder, path, config)
    difference = largest_difference(source.encoder, chosen.read(path, config), source.in_channels)
    if not difference <= chosen.tolerance:
        raise InputError(
            f"format {name}: what was written gives features that differ by {difference:.1e} from the network's, more "
            f"than {chosen.tolerance:.0e}: install other versions of its packages, or choose another format"
        )
    return difference


def _check_place(out: Path) -> None:
    above = next(path for path in out.absolute().parents if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"--out {out}: cannot write below {above}, give another folder")
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise InputError(f"--out {out} is no folder: give another")
    if any(out.iterdir()) and not _is_ours(out):
        raise InputError(f"--out {out} holds other things than an exported encoder: give an empty or a new folder")


def _is_ours(folder: Path) -> bool:
    known = {"config.json", "README.md", "LICENSE", *(each.file for each in FORMATS.values())}
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return {path.name for path in folder.iterdir()} <= known and config.get("model_type") == MODEL_TYPE


@contextlib.contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """Yield a new folder that takes the place of ``out`` at the end, or vanishes after an error."""
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        folder = scratch / "new"
        folder.mkdir()
        yield folder
        for path in folder.iterdir():
            _settle(path)
        if out.exists():
            out.rename(scratch / "old")
        folder.rename(out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _settle(path: Path) -> None:
    path.chmod(0o644)
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
