"""The embedded IXI cohort: simulated whole heads of three sites, in files named as IXI's, with SPM-like tissue maps."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from scripts.cohort import readmes
from scripts.cohort.finish import finish_cohort
from scripts.cohort.head import head_grid
from scripts.cohort.ixi_scanners import SCANNERS
from scripts.cohort.label_cohort import LabelSource, find_source, write_people
from scripts.cohort.label_scanned import scan_head
from scripts.cohort.lattice import stream
from scripts.cohort.make import check_numbers, check_spacing, claim, make_all
from scripts.cohort.person import draw_person
from scripts.cohort.scanner import InScanner, View, acquire, make_head, reslice, write_image
from scripts.errors import InputError
from scripts.io.write import write_text
from scripts.switches import is_on

__all__ = ["cohort_ixi", "make_ixi_cohort"]

_VERSION = 1
_NUMBERS = 10_000  # no subject of another embedded cohort has a number from here on


def cohort_ixi(
    out: str,
    guys: int = 20,
    hh: int = 4,
    iop: int = 4,
    seed: int = 0,
    spacing: float | None = None,
    jobs: int | None = None,
    label_maps: str | None = None,
    flair: bool = False,
) -> None:
    """Write the embedded IXI cohort and say what was written; the command ``cohort ixi``. See `make_ixi_cohort`."""
    check_spacing(spacing)
    flair = is_on(flair, "flair")
    size = (guys + hh + iop) * (80.0 if flair else 60.0) / (1.0 if spacing is None else spacing**3)
    grid = "IXI's own voxels" if spacing is None else f"{spacing:g} mm"
    tqdm.write(
        f"Simulating heads of {guys} (Guys), {hh} (HH) and {iop} (IOP) subjects, {grid}, seed {seed}, into {out} "
        f"(about {size:.0f} MB)"
    )
    path = make_ixi_cohort(
        out, guys=guys, hh=hh, iop=iop, seed=seed, spacing=spacing, label_maps=label_maps, flair=flair, jobs=jobs
    )
    what = f"IXI*-T1, -T2{', -PD and -FLAIR' if flair else ' and -PD'}.nii.gz with c1, c2, c3 maps"
    finish_cohort(path, "ixi", what, jobs=jobs)


def make_ixi_cohort(
    out: str | Path,
    *,
    guys: int = 20,
    hh: int = 4,
    iop: int = 4,
    seed: int = 0,
    spacing: float | None = None,
    label_maps: str | Path | None = None,
    flair: bool = False,
    jobs: int | None = None,
    progress: bool = True,
) -> Path:
    """Write simulated heads in files named as IXI's and return their folder.

    Every file is moved into place whole, a subject's images after its tissue maps; an interrupted run is
    continued by the same call, and larger counts extend the cohort. A subject does not depend on the counts,
    nor on ``jobs``. One run at a time may write to a folder.

    Args:
        out: folder to write.
        guys: subjects of Guy's Hospital (1.5 T).
        hh: subjects of Hammersmith Hospital (3 T).
        iop: subjects of the Institute of Psychiatry (1.5 T).
        seed: of everything random.
        spacing: isotropic voxels [mm], 0.9 to 8; None takes IXI's own grids (T1 sagittal 0.9375 x 0.9375 x 1.2 mm,
            T2 and PD axial 0.9375 x 0.9375 x 1.25 mm).
        label_maps: folder of label maps of whole heads, instead of the template's one anatomy; ``participants.tsv``
            then tells whose head each subject is.
        flair: also make a FLAIR, which IXI does not have, on the grid of T2; all other files stay the same.
        jobs: subjects made at once; by default one per core, at most 4.
        progress: whether to show a bar.

    Raises:
        InputError: if a setting is out of range, or ``out`` holds something else, or other subjects.
    """
    check_numbers(seed, jobs, guys=guys, hh=hh, iop=iop)
    if guys + hh + iop < 1 or max(guys, hh, iop) > 330:
        raise InputError(f"guys={guys}, hh={hh}, iop={iop}: choose 1 to 330 subjects of a site")
    spacing = check_spacing(spacing)
    root = Path(out)
    source = find_source(label_maps, whole_heads=bool(label_maps))
    settings = {"cohort": "ixi", "version": _VERSION, "seed": int(seed), "spacing": spacing}
    claim(root, settings if source is None else settings | source.settings)
    write_text(root / "README", readmes.IXI if source is None else readmes.IXI_LABEL_MAPS)
    names = [_name(site, k) for site, n in zip(SCANNERS, (guys, hh, iop), strict=True) for k in range(1, n + 1)]
    names.sort()
    held = {path.name[: -len("-T1.nii.gz")] for path in root.glob("IXI*-T1.nii.gz")}
    if not held <= set(names):
        raise InputError(
            f"{root} holds {len(held)} subjects, among them {min(held - set(names))}, not of the "
            f"{len(names)} asked for (guys={guys}, hh={hh}, iop={iop}): choose another --out"
        )
    kinds = ("T1", "T2", "PD", "FLAIR") if flair else ("T1", "T2", "PD")
    missing = [name for name in names if not all((root / file).is_file() for file in _files(name, kinds))]
    fine = 1.0 if spacing is None else spacing
    make_all(
        names,
        missing,
        lambda name: _make_subject(root, name, seed, spacing, fine, source, kinds),
        spacing=fine,
        jobs=jobs,
        progress=progress,
        from_template=source is None,
    )
    if source is not None:
        write_people(root, {name: source.person(_index(name, source)) for name in names})
    return root


def _name(site: str, k: int) -> str:
    """Return the name of the k-th subject (from 1) of a site; the sites' numbers interleave, as in IXI."""
    number = 3 * k - 1 + list(SCANNERS).index(site)
    return f"IXI{number:03d}-{site}-{700 + 2 * number:04d}"


def _files(name: str, kinds: Sequence[str]) -> list[str]:
    """Return a subject's files in the order in which they appear: the images last, of these T1."""
    images = [f"{name}-{kind}.nii.gz" for kind in reversed(kinds)]
    return [*(f"c{tissue}{image}" for image in images for tissue in (1, 2, 3)), *images]


def _views(site: str, spacing: float | None, rng: np.random.Generator) -> tuple[View, View]:
    """Return the voxels of T1 and of T2 and PD, a little tilted and shifted."""
    t1_tilt, t2_tilt = rng.normal(0.0, 2.0, 3), rng.normal(0.0, 3.0, 3)
    shift = rng.normal(0.0, 2.0, 3)
    t1 = View(
        "PSR",
        (256, 256, 150),
        (0.9375, 0.9375, 1.2),
        (shift[0], -26.0 + shift[1], -14.0 + shift[2]),
        (t1_tilt[0], t1_tilt[1], t1_tilt[2]),
    )
    slices = SCANNERS[site].slices
    t2 = View(
        "LAS",
        (256, 256, slices),
        (0.9375, 0.9375, 1.25),
        (shift[0], -26.0 + shift[1], 8.0 + shift[2]),
        (t2_tilt[0], t2_tilt[1], t2_tilt[2]),
    )
    return t1.at(spacing), t2.at(spacing)


def _index(name: str, source: LabelSource) -> int:
    """Return which head (from 1) of label maps a subject is.

    Guys starts with the first person; HH and IOP, which are tested on, have the last fifth of the people, whom no
    default split trains on.
    """
    site = list(SCANNERS).index(name.split("-")[1])
    k, people = (int(name[3:6]) + 1 - site) // 3, len(source.maps)
    return k if site == 0 else 2 * people - (k - 1) % max(1, people // 5)


def _make_subject(
    root: Path,
    name: str,
    seed: int,
    spacing: float | None,
    fine: float,
    source: LabelSource | None,
    kinds: Sequence[str],
) -> None:
    """Make one subject in a temporary folder and move its files into place.

    In that folder names begin with a dot: whoever searches the cohort for IXI* finds no half subject there.
    """
    number, site = _NUMBERS + int(name[3:6]), name.split("-")[1]
    scanner = SCANNERS[site]
    head: InScanner
    if source is None:
        head = make_head(draw_person(number, seed, 0.0), seed, head_grid(fine), scanner.field_strength)
    else:
        head = scan_head(source, _index(name, source), number, seed, fine, scanner.field_strength)
    rng = stream(seed, number, "scan")
    t1, t2 = _views(site, spacing, rng)
    temporary = root / f".part-{name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    tissues = head.shares
    for kind in kinds:
        sequence, view = getattr(scanner, kind.lower()), t1 if kind == "T1" else t2
        image = acquire(head, sequence, view, rng, bias=scanner.bias, noise=scanner.noise)
        write_image(temporary / f".{name}-{kind}.nii.gz", image, view)
        if kind in ("T1", "T2"):  # the others lie on the grid of T2
            stored = np.floor(reslice(tissues, head.grid, view) * np.float32(255.0) + np.float32(1e-3))
        for number_of, share in enumerate(stored.clip(0, 255).astype(np.uint8), start=1):
            write_image(temporary / f".c{number_of}{name}-{kind}.nii.gz", share, view, step=1 / 255)
    for file in _files(name, kinds):
        (temporary / f".{file}").replace(root / file)
    temporary.rmdir()
