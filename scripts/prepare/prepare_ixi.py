"""The IXI dataset, from the download to what the bundles read: images, tissue maps, split and quality page."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tqdm import tqdm

from scripts.data.ixi import DEGENERATE, MODALITIES, SITES, TISSUE_CLASSES
from scripts.parallel import default_jobs
from scripts.prepare.checksums import verify
from scripts.prepare.datalist import tell_datalists, write_datalists
from scripts.prepare.download import fetch, missing_bytes
from scripts.prepare.ixi_sources import Subject, find_sources, find_tars
from scripts.prepare.ixi_subject import make_subject
from scripts.prepare.preparation import Summary, prepare_subjects, print_summary, training
from scripts.prepare.records import claim_output, is_finished
from scripts.prepare.remotes import ixi_remotes
from scripts.prepare.space import require_space
from scripts.switches import is_on
from scripts.tasks import bundles_on

__all__ = ["prepare_ixi"]

_VERSION = 1
_MAPS_SHARE = 0.5  # size of the tissue maps and pictures, in shares of that of the images
_KINDS = tuple(MODALITIES.values())


def prepare_ixi(
    source: str,
    out: str,
    *,
    download: bool | str = False,
    labels: str | None = None,
    mirror: str | None = None,
    verify_sums: bool | str = True,
    jobs: int | None = None,
) -> Summary:
    """Prepare IXI for the bundles ixi_seg and ixi_denoise and say what was done; the command ``prepare ixi``.

    Images are taken as they are. Tissue maps are those of SPM where the source has them; else grey matter, white
    matter and CSF are classified on the T1 and carried to T2 and PD, see `scripts.prepare.ixi_subject`.
    Subjects appear whole; the same command goes on where it stopped and makes what is new or changed.

    Args:
        source: folder with IXI-T1.tar, IXI-T2.tar and IXI-PD.tar, or with what they hold, at any depth.
        out: folder for the result.
        download: fetch the tar files that ``source`` lacks into it first (12 GB).
        labels: folder of SPM's c1, c2 and c3 maps; default: looked for in ``source``.
        mirror: address of a folder to download from instead of the official one.
        verify_sums: whether the tar files must have the published checksums.
        jobs: subjects made at once; default: one per core, at most 8.

    Raises:
        InputError: for folders that do not fit, a tar file that is damaged, or too little space; before any work.
    """
    started = time.monotonic()
    default_jobs(jobs)
    folder = Path(source)
    if is_on(download, "download"):
        folder.mkdir(parents=True, exist_ok=True)
    root = claim_output(out, folder, {"dataset": "ixi", "version": _VERSION})
    sums = root / ".prepared" / "checksums.json"
    if is_on(download, "download"):
        _download(folder, root, mirror, sums)
    if is_on(verify_sums, "verify"):
        for kind, tar in find_tars(folder).items():
            verify(tar, ixi_remotes(mirror)[kind], cache=sums)
    found = find_sources(folder, Path(labels) if labels else None)
    plan, left_out = _plan(found)
    missing = [name for name, subject in plan.items() if not is_finished(root, name, subject.inputs())]
    needed = sum(sum(plan[name].inputs().values()) for name in missing)
    require_space(root, round(needed * (1 + _MAPS_SHARE)), "the images and their tissue maps")
    _announce(plan, folder, root)
    summary = prepare_subjects(
        root,
        "ixi",
        {name: subject.inputs() for name, subject in plan.items()},
        partial(make_subject, root=root, plan=plan),
        left_out=left_out,
        jobs=jobs,
    )
    counts = write_datalists(root, "ixi")
    tell_datalists(root, counts)
    print_summary(summary, started, [training(bundle, root) for bundle in bundles_on("ixi")] if counts else [])
    return summary


def _plan(found: Mapping[str, Subject]) -> tuple[dict[str, Subject], dict[str, str]]:
    """Return the subjects to prepare, and why others, or some of their images, are not."""
    kinds = [kind for kind in _KINDS if any(kind in subject.images for subject in found.values())]
    plan: dict[str, Subject] = {}
    left_out: dict[str, str] = {}
    for name, subject in found.items():
        thick = [kind for kind in subject.images if (name, kind) in DEGENERATE]
        for kind in thick:
            del subject.images[kind]
        if thick:
            left_out[f"{name} {', '.join(thick)}"] = "28 slices of 5 mm instead of some 130 of 1.25 mm"
        unlabelled = [
            kind for kind in subject.images if "T1" not in subject.images and len(subject.maps.get(kind, {})) < 3
        ]
        if unlabelled:
            left_out[name] = f"has {', '.join(unlabelled)} but no T1, on which tissue maps are made"
            continue
        absent = [kind for kind in kinds if kind not in (*subject.images, *thick)]
        if absent:
            left_out[f"{name} {', '.join(absent)}"] = f"not in the dataset; its {', '.join(subject.images)} is prepared"
        plan[name] = subject
    return plan, left_out


def _announce(plan: Mapping[str, Subject], folder: Path, root: Path) -> None:
    images = ", ".join(f"{sum(kind in subject.images for subject in plan.values())} {kind}" for kind in _KINDS)
    sites = ", ".join(f"{sum(name.split('-')[1] == site for name in plan)} {site}" for site in SITES)
    tqdm.write(f"IXI in {folder}: {len(plan)} subjects ({sites}), {images}; into {root}")
    made = sum(
        "T1" in subject.images and len(subject.maps.get("T1", {})) < len(TISSUE_CLASSES) for subject in plan.values()
    )
    tqdm.write(f"Tissue maps: SPM's of {len(plan) - made} subjects are taken, those of {made} are made from the T1")


def _download(folder: Path, root: Path, mirror: str | None, sums: Path) -> None:
    """Fetch the tar files of the kinds of which ``folder`` holds no image, unpacked or not."""
    tars = find_tars(folder)
    remotes = [
        remote
        for kind, remote in ixi_remotes(mirror).items()
        if kind not in tars and next(folder.rglob(f"IXI*-{kind}.nii*"), None) is None
    ]
    coming = missing_bytes(remotes, folder)
    later = round(sum(remote.size or 0 for remote in remotes) * (1 + _MAPS_SHARE))
    if folder.stat().st_dev == root.stat().st_dev:
        require_space(folder, coming + later, "the download of IXI and what is prepared of it")
    else:
        require_space(folder, coming, "the download of IXI")
        require_space(root, later, "the images and their tissue maps")
    for remote in remotes:
        fetch(remote, folder, cache=sums)
