"""Reproducible archives of bundles: the same input gives the same bytes."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.bundles import BUNDLE_NAMES, BUNDLES
from scripts.errors import InputError
from scripts.io.files import atomic_write
from scripts.package.stage import check_staged, stage_bundle
from scripts.switches import is_given
from scripts.weights.provenance import Provenance, file_sha256, weights_file

__all__ = ["Package", "package_bundle", "package_bundles", "unpack_bundle"]

_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = 0o644 << 16


@dataclass(frozen=True)
class Package:
    """An archive: its file, SHA-256, number of files, and what is known of its weights (None: it has none)."""

    path: Path
    sha256: str
    n_files: int
    weights: Provenance | None

    def __str__(self) -> str:
        if self.weights is None:
            about = "no weights"
        else:
            known = [
                str(self.weights.settings[k]) for k in ("mode", "variant", "modality") if k in self.weights.settings
            ]
            about = f"weights {self.weights.sha256[:12]} ({', '.join(known) or 'nothing known of their training'})"
        size = self.path.stat().st_size / 1e6
        return f"{self.path}  {size:.1f} MB, {self.n_files} files, {about}\n  SHA-256 {self.sha256}"


def package_bundles(name: str, out: str | Path, weights: str | Path | None = None) -> list[Package]:
    """Package one bundle, or all of them; see `package_bundle`.

    Args:
        name: of a bundle, or ``all``.
        out: folder for the archives.
        weights: see `scripts.weights.provenance.weights_file`; for all bundles, a folder.

    Raises:
        InputError: see `package_bundle`.
    """
    if name not in (*BUNDLE_NAMES, "all"):
        raise InputError(f"bundle {name} is unknown: choose {', '.join(BUNDLE_NAMES)} or all")
    if name == "all" and is_given(weights) and not Path(str(weights)).is_dir():
        raise InputError(f"--weights {weights}: to package all bundles, give the folder of a demo")
    names: Sequence[str] = BUNDLE_NAMES if name == "all" else (name,)
    return [package_bundle(BUNDLES / each, Path(out), weights) for each in names]


def package_bundle(bundle: Path, out: Path, weights: str | Path | None = None) -> Package:
    """Make ``<out>/<name>.zip`` of a bundle; it stands on its own wherever it is unpacked.

    The archive holds one folder of the bundle's name, as MONAI wants it. Its entries are sorted, dated 1980 and
    stored uncompressed, so that its bytes depend on nothing but theirs.

    Args:
        bundle: folder of the bundle in the checkout.
        out: folder for the archive.
        weights: see `scripts.weights.provenance.weights_file`; ``none`` for an archive without.

    Raises:
        InputError: see `scripts.package.stage.stage_bundle` and `check_staged`.
    """
    found = weights_file(bundle, weights) if weights is None or is_given(weights) else None
    with tempfile.TemporaryDirectory(prefix="seqinv-package-") as scratch:
        folder = Path(scratch) / bundle.name
        provenance = stage_bundle(bundle, folder, found)
        check_staged(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        path = atomic_write(out / f"{bundle.name}.zip", lambda part: _write(part, folder, files))
    return Package(path, file_sha256(path), len(files), provenance)


def unpack_bundle(archive: Path, into: Path) -> Path:
    """Unpack an archive and return the folder of the bundle.

    Args:
        archive: ``<name>.zip`` that holds one folder of that name.
        into: folder to unpack into.

    Raises:
        InputError: no archive, or not of a bundle.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            names = content.namelist()
            outside = [name for name in names if not name.startswith(f"{archive.stem}/") or ".." in name.split("/")]
            if outside or f"{archive.stem}/configs/inference.json" not in names:
                raise InputError(
                    f"{archive} is no archive of the bundle {archive.stem}: make it with `python -m scripts package`"
                )
            content.extractall(into)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{archive} cannot be unpacked ({error}): copy it again") from error
    return into / archive.stem


def _write(path: Path, folder: Path, files: Sequence[Path]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            entry = zipfile.ZipInfo(f"{folder.name}/{file.relative_to(folder).as_posix()}", _DATE)
            entry.external_attr = _MODE
            entry.create_system = 3  # Unix, wherever it is made
            archive.writestr(entry, file.read_bytes())
