"""One scan's quantitative maps, from its files to clean maps in project units within a brain mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from scripts.data.layout import read_sidecar
from scripts.data.qmri import R2_OVER_R2STAR, R2STAR_CONSTANT
from scripts.data.units import LABELS, LIMITS
from scripts.errors import InputError
from scripts.io.header import check_same_grid
from scripts.io.read import read_header, read_volume
from scripts.prepare.qmri_clean import Cleaning, clean_map
from scripts.prepare.qmri_mask import core_of_head, is_masked, litres, maps_mask, read_mask, simulated_mask
from scripts.prepare.qmri_sources import Scan
from scripts.prepare.qmri_units import Reading, apply_reading, infer_units

__all__ = ["PreparedScan", "prepare_scan"]

# 1 / PD = a + b R1, PD as a share of that of water, R1 in 1/s: at 3 T a is 0.88 to 0.92 and b 0.44 to 0.50 (Volz,
# Gracien and their colleagues)
_PD_OF_R1 = (0.9, 0.45)
_PD_OF_WATER = 100.0
_BRAIN = (0.6, 2.3)  # litres that are not worth a note
_WORTH_A_NOTE = 0.01

Array = NDArray[np.float32]


@dataclass
class PreparedScan:
    """What a scan became.

    Attributes:
        maps: pd, r1, r2star, mtsat and, where there is one, r2 -> (I, J, K) in project units, 0 outside the brain.
        brain: (I, J, K).
        affine: (4, 4) voxel to world [mm], RAS+.
        origins: map, or ``brain``, -> what its sidecar says about where it comes from.
        about: the units and how the brain was found, in one line each.
        notes: what a user should look at.
        failed: share of the brain where some fit had failed.
    """

    maps: dict[str, Array]
    brain: NDArray[np.bool_]
    affine: NDArray[np.float64]
    origins: dict[str, dict[str, Any]] = field(default_factory=dict)
    about: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: float = 0.0


def prepare_scan(
    scan: Scan, source: Path, settings: Mapping[str, str], *, make_mask: bool = False, spacing: float | None = None
) -> PreparedScan:
    """Return a scan's maps: read, told by unit, masked, converted, cleaned, completed, resampled.

    A map that lacks is made: MTsat is 0; R2* is R2 / 0.7 or 20 1/s; PD follows R1, 1 / PD = 0.9 + 0.45 R1 with
    PD as a share of that of water, at most 100 p.u.

    Args:
        scan: where the maps lie.
        source: folder that paths are told relative to.
        settings: map -> unit or "auto".
        make_mask: find the brain even where a mask is given or the maps are masked.
        spacing: side of the voxels wanted [mm]; None keeps them.

    Raises:
        InputError: if the scan has a problem, or its maps are damaged, empty, on different grids or of no known
            unit.
    """
    if scan.problem:
        raise InputError(scan.problem)
    volumes, affine = _read_maps(scan)
    brain, how = _find_brain(scan, volumes, affine, settings, make_mask)
    readings = infer_units(scan.maps, volumes, brain, settings)
    done = PreparedScan({}, brain, affine)
    _convert_and_clean(scan, source, volumes, readings, done)
    done.origins["brain"] = {"Type": "Brain", "Method": how}
    if scan.mask is not None and not make_mask:
        done.origins["brain"]["Sources"] = [_relative(scan.mask, source)]
    _complete(done)
    if spacing is not None:
        _resample(done, spacing)
    size = litres(done.brain, done.affine)
    line = ", ".join(readings[name].text for name in scan.maps)
    mute = [LABELS[name] for name, one in scan.maps.items() if settings[name] == "auto" and not read_sidecar(one.path)]
    if mute:
        done.about.append(f"no sidecar tells the units of {', '.join(mute)}: they are told by the values")
    done.about.insert(0, f"{line}; brain of {size:.2f} l, {how}")
    if not _BRAIN[0] <= size <= _BRAIN[1]:
        done.notes.append(f"a brain of {size:.2f} l: is the mask right? --mask 'PATTERN' gives another")
    return done


def _read_maps(scan: Scan) -> tuple[dict[str, Array], NDArray[np.float64]]:
    """Return the maps as stored, NaN where they have no value, and their affine."""
    paths = [source.path for source in scan.maps.values()] + ([scan.mask] if scan.mask else [])
    headers = [read_header(path) for path in paths]
    for header in headers[1:]:
        check_same_grid(headers[0], header)
    volumes, affine = {}, np.eye(4)
    for name, source in scan.maps.items():
        volume, affine = read_volume(source.path, nan="zero")
        _restore_nan(source.path, volume)
        if not (volume > 0).any():
            state = "holds no value above 0" if volume.any() else "is 0 everywhere"
            raise InputError(f"{source.path} {state}: restore the {LABELS[name]} map, or remove it to do without")
        volumes[name] = volume
    return volumes, affine


def _restore_nan(path: Path, volume: Array) -> None:
    """Put NaN back where a file, read with zeros instead, holds NaN or infinity."""
    image = nib.load(path)
    if image.get_data_dtype().kind != "f":
        return
    bad = ~np.isfinite(np.asarray(image.dataobj.get_unscaled()))
    if bad.any():
        volume[nib.apply_orientation(bad, nib.io_orientation(image.affine)).astype(bool)] = np.nan


def _find_brain(
    scan: Scan, volumes: Mapping[str, Array], affine: NDArray[np.float64], settings: Mapping[str, str], make: bool
) -> tuple[NDArray[np.bool_], str]:
    """Return the brain and how it was found."""
    if scan.mask is not None and not make:
        return read_mask(scan.mask), f"mask {scan.mask.name}"
    positive = maps_mask(volumes)
    if is_masked(positive, affine) and not make:
        from scipy.ndimage import binary_fill_holes

        return np.asarray(binary_fill_holes(positive)), "the maps are masked"
    if "pd" not in volumes:
        raise InputError(f"{scan.folder}: without PD no brain can be found in whole heads: give a mask with --mask")
    core = core_of_head(volumes["pd"], affine)
    readings = infer_units(scan.maps, volumes, core, settings)
    maps = {
        name: apply_reading(name, volumes[name], readings[name]) for name in ("pd", "r1", "r2star") if name in volumes
    }
    try:
        brain = simulated_mask(maps, affine)
    except InputError as error:
        raise InputError(f"{scan.folder}: {error}; or give a mask with --mask") from error
    return brain, "found in an MPRAGE image simulated from the maps"


def _convert_and_clean(
    scan: Scan, source: Path, volumes: Mapping[str, Array], readings: Mapping[str, Reading], done: PreparedScan
) -> None:
    voxel_volume = float(np.prod(voxel_sizes(done.affine)))
    failed = np.zeros_like(done.brain)
    n_brain = int(done.brain.sum())
    for name, volume in volumes.items():
        reading = readings[name]
        values = apply_reading(name, volume, reading)
        with np.errstate(invalid="ignore"):
            failed |= done.brain & ~(values <= LIMITS[name])
        done.maps[name], cleaning = clean_map(name, values, done.brain, voxel_volume)
        done.origins[name] = {
            "Sources": [_relative(scan.maps[name].path, source)],
            "SourceUnits": reading.unit,
            "Reading": reading.text,
            "Cleaned": cleaning.counts(),
        }
        done.notes += [*reading.notes, *_note_cleaning(name, cleaning, n_brain)]
    done.failed = float(failed.sum()) / n_brain
    for name in ("pd", "r1"):
        if name in done.maps:
            done.brain &= done.maps[name] > 0
    for volume in done.maps.values():
        volume *= done.brain


def _note_cleaning(name: str, cleaning: Cleaning, n_brain: int) -> list[str]:
    """Tell of changes that concern more than a hundredth of the brain."""
    texts = []
    limit = f"{LIMITS[name]:g}"
    words = {
        "no_value": "without a value",
        "above_limit": f"above {limit}",
        "negative": "negative, set to 0",
        "left": "left without a value",
    }
    for key, text in words.items():
        share = getattr(cleaning, key) / n_brain
        if share > _WORTH_A_NOTE:
            texts.append(f"{LABELS[name]}: {share:.1%} of the brain {text}")
    return texts


def _complete(done: PreparedScan) -> None:
    """Make the maps that lack, by models that their sidecars and the notes tell."""
    made: dict[str, tuple[Array, str]] = {}
    r1 = done.maps["r1"]
    if "pd" not in done.maps:
        a, b = _PD_OF_R1
        pd = np.minimum(_PD_OF_WATER / (a + b * r1), _PD_OF_WATER)
        made["pd"] = pd, f"from R1: 1 / PD = {a:g} + {b:g} R1 with PD as a share of water's, at most 100 p.u."
    if "r2star" not in done.maps:
        if "r2" in done.maps:
            made["r2star"] = done.maps["r2"] / R2_OVER_R2STAR, f"R2 / {R2_OVER_R2STAR:g}"
        else:
            made["r2star"] = np.full_like(r1, R2STAR_CONSTANT), f"{R2STAR_CONSTANT:g} 1/s throughout the brain"
    if "mtsat" not in done.maps:
        made["mtsat"] = np.zeros_like(r1), "0, the MT term of the signal is off"
    for name, (values, text) in made.items():
        done.maps[name] = (values * done.brain).astype(np.float32)
        done.origins[name] = {"Substitute": text}
        done.notes.append(f"no {LABELS[name]} map: {text}")


def _resample(done: PreparedScan, spacing: float) -> None:
    from scripts.prepare.qmri_grid import resample_maps

    before = voxel_sizes(done.affine)
    maps, done.brain, done.affine = resample_maps(np.stack([*done.maps.values()]), done.brain, done.affine, spacing)
    done.maps = dict(zip(done.maps, maps, strict=True))
    for origin in done.origins.values():
        origin["Resampled"] = f"from {' x '.join(f'{side:.3g}' for side in before)} mm to {spacing:g} mm"


def _relative(path: Path, source: Path) -> str:
    return path.relative_to(source).as_posix() if path.is_relative_to(source) else path.name
