"""A store of quantitative maps from which regions are read in milliseconds, without loading whole volumes.

`scripts.data.store_read` says what its files hold. The name of an entry carries a hash of the source files
(path, size, modification time) and of the settings, so an entry is never stale and never rewritten; its
header is written last, so an entry with a header is whole.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scripts.data.layout import MAPS, read_sidecar
from scripts.data.qmri import load_maps, substitutes
from scripts.data.store_read import StoreHeader, read_store_header
from scripts.data.units import check_settings
from scripts.errors import InputError
from scripts.io.files import atomic_write
from scripts.io.header import check_same_grid
from scripts.io.read import read_header, read_volume
from scripts.parallel import Threads, progress_bar, run_jobs

__all__ = ["prepare_store"]

_VERSION = 1
_N_VOXELS = 4096
_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)
_ABANDONED = 3600.0  # seconds after which a temporary file has no writer any more


def prepare_store(
    data: Sequence[Mapping[str, Any]],
    cache_dir: str | Path,
    *,
    units: Mapping[str, str] | str = "auto",
    nan: Literal["error", "zero"] = "error",
    jobs: int = 2,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Return ``data`` with each scan's stored volume as ``"store"`` (a path), building those that lack one.

    Every map of every scan is read and checked here, before anything is trained. Valid entries are found
    again in milliseconds. Killed at any moment, it goes on where it was; several processes may do it at once.

    Args:
        data: entries of `scripts.data.qmri.find_subjects`.
        cache_dir: folder of the store, made if need be; may be deleted whenever nothing runs.
        units: as `scripts.data.qmri.load_maps` takes them.
        nan: likewise.
        jobs: scans read at once; each takes about 0.5 GB at 1 mm.
        progress: whether to show a bar with the time left, when there is something to build.

    Raises:
        InputError: if a scan has a problem: names the first and counts the others, after all were looked at;
            if ``cache_dir`` cannot be written.
    """
    settings = {"units": check_settings(units), "nan": nan}
    folder = Path(cache_dir)
    stores = [_store_path(entry, folder, settings) for entry in data]
    to_build = {store: entry for store, entry in zip(stores, data, strict=True) if not _is_valid(store)}
    if to_build:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(folder)
        except OSError as error:
            raise InputError(f"cache_dir {folder} cannot be written ({error.strerror}): set another") from error
        _build_all(to_build, settings, jobs, progress)
    return [{**entry, "store": str(store)} for entry, store in zip(data, stores, strict=True)]


def _build_all(
    entries: Mapping[Path, Mapping[str, Any]], settings: Mapping[str, Any], jobs: int, progress: bool
) -> None:
    problems: dict[Path, InputError] = {}
    with progress_bar(len(entries), "Reading qMRI maps", "scan", progress) as bar:
        team = Threads(max(1, jobs))
        for store, error in run_jobs(list(entries), lambda store: _build(entries[store], store, settings), team):
            if isinstance(error, InputError):
                problems[store] = error
            elif error is not None:
                raise error
            bar.update()
    if problems:
        more = f" ({len(problems) - 1} more scans have problems)" if len(problems) > 1 else ""
        raise InputError(f"{problems[min(problems)]}{more}")


def _build(entry: Mapping[str, Any], store: Path, settings: Mapping[str, Any]) -> None:
    maps, affine = load_maps(entry, units=settings["units"], nan=settings["nan"])
    original_shape = maps.shape[1:]
    # what float16 would round to 0 is taken out of all maps, lest a voxel be brain in some of them only
    brain = (maps[0] > _SMALLEST) & (maps[1] > _SMALLEST)
    box = _bounding_box(brain)
    if box is None:
        raise InputError(f"{entry['pd']} is 0 nearly everywhere: check the map")
    brain = brain[box]
    half = (maps[(slice(None), *box)] * brain).astype(np.float16)
    header = StoreHeader(
        subject=str(entry["subject"]),
        maps=MAPS[: len(half)],
        shape=half.shape[1:],
        offset=(box[0].start, box[1].start, box[2].start),
        original_shape=original_shape,
        spacing=tuple(np.linalg.norm(affine[:3, :3], axis=0).round(6).tolist()),
        affine=tuple(map(tuple, affine.tolist())),
        sources=_fingerprint(entry),
        settings=settings,
        substitutes=substitutes(entry),
    )
    voxels = _draw_voxels(_brain_alone(entry, brain, box))
    try:
        atomic_write(store, lambda part: np.save(part, half))
        atomic_write(store.with_suffix(".voxels.npy"), lambda part: np.save(part, voxels))
        text = json.dumps(asdict(header), indent=1) + "\n"
        atomic_write(store.with_suffix(".json"), lambda part: part.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{store} cannot be written ({error.strerror}): free space or set cache_dir") from error


def _bounding_box(brain: np.ndarray) -> tuple[slice, slice, slice] | None:
    hits = [np.flatnonzero(brain.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if not all(len(found) for found in hits):
        return None
    first, second, third = (slice(int(found[0]), int(found[-1]) + 1) for found in hits)
    return first, second, third


def _brain_alone(entry: Mapping[str, Any], head: np.ndarray, box: tuple[slice, slice, slice]) -> np.ndarray:
    """Return what of the maps is brain: of a whole head, what the segmentation beside them names, if there is one."""
    density = Path(entry["pd"])
    segmentation = density.with_name(density.name.replace("_PDmap.nii", "_dseg.nii"))
    if read_sidecar(density).get("SkullStripped") is not False or not segmentation.is_file():
        return head
    check_same_grid(read_header(density), read_header(segmentation))
    brain: np.ndarray = (read_volume(segmentation)[0][box] > 0) & head
    return brain if brain.any() else head


def _draw_voxels(brain: np.ndarray) -> np.ndarray:
    voxels = np.flatnonzero(brain)
    if len(voxels) > _N_VOXELS:
        voxels = np.random.default_rng(0).choice(voxels, _N_VOXELS, replace=False, shuffle=False)
    return np.stack(np.unravel_index(np.sort(voxels), brain.shape), axis=1).astype(np.int16)


def _store_path(entry: Mapping[str, Any], folder: Path, settings: Mapping[str, Any]) -> Path:
    known = json.dumps([_VERSION, entry["subject"], _fingerprint(entry), settings], sort_keys=True)
    session = f"_{entry['session']}" if entry.get("session") else ""
    return folder / f"{entry['subject']}{session}-{hashlib.sha256(known.encode()).hexdigest()[:16]}.npy"


def _fingerprint(entry: Mapping[str, Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name in MAPS:
        if entry.get(name):
            path = Path(entry[name]).absolute()
            try:
                status = path.stat()
            except OSError as error:
                raise InputError(f"{path} does not exist: correct the path or restore the file") from error
            found[name] = [str(path), status.st_size, status.st_mtime_ns]
    return found


def _is_valid(store: Path) -> bool:
    try:
        header = read_store_header(store)
        n_bytes = 2 * len(header.maps) * int(np.prod(header.shape))
        return store.stat().st_size > n_bytes and store.with_suffix(".voxels.npy").is_file()
    except (InputError, OSError, TypeError):
        return False


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(".part-*"):
        if path.stat().st_mtime < time.time() - _ABANDONED:
            path.unlink(missing_ok=True)
