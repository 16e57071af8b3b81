"""Commands that make data: simulated cohorts, and real data from the download to what the bundles read."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from scripts.errors import SOME_FAILED

if TYPE_CHECKING:
    from scripts.prepare.preparation import Summary

__all__ = ["cohort_arc", "cohort_ixi", "cohort_qmri", "prepare_arc", "prepare_ixi", "prepare_qmri"]


def cohort_qmri(
    out: str,
    subjects: int | None = None,
    seed: int = 0,
    spacing: float = 1.0,
    label_maps: str | None = None,
    whole_heads: bool = False,
    lesions: str | None = None,
    jobs: int | None = None,
) -> None:
    """Make the embedded cohort of quantitative maps: a BIDS derivative of simulated anatomy.

    Args:
        out: folder to make; an interrupted one is continued.
        subjects: how many; default: 51, of whom 22 are healthy and the others have a stroke lesion; with label_maps
            one for each map.
        seed: the same seed makes the same bytes.
        spacing: voxel size [mm].
        label_maps: folder of label maps of people's heads (FreeSurfer's ids), from which the heads are made; default:
            one average brain, deformed and refolded.
        whole_heads: keep the whole heads of label maps, not the brains alone.
        lesions: folder of masks of stroke lesions in MNI space, laid into the heads from label_maps.
        jobs: subjects made at once; default: one per core, at most 4.
    """
    from scripts.cohort.qmri_cohort import cohort_qmri as make

    make(out, subjects, seed, spacing, jobs, label_maps=label_maps, whole_heads=whole_heads, lesions=lesions)


def cohort_ixi(
    out: str,
    guys: int = 20,
    hh: int = 4,
    iop: int = 4,
    seed: int = 0,
    spacing: float | None = None,
    label_maps: str | None = None,
    flair: bool = False,
    jobs: int | None = None,
) -> None:
    """Make the embedded IXI cohort: simulated whole heads of three sites, named as IXI's, with tissue maps.

    Args:
        out: folder to make; an interrupted one is continued.
        guys: subjects of Guy's Hospital (1.5 T).
        hh: subjects of Hammersmith Hospital (3 T).
        iop: subjects of the Institute of Psychiatry (1.5 T).
        seed: the same seed makes the same bytes.
        spacing: isotropic voxel size [mm]; default: IXI's own grids.
        label_maps: folder of label maps of people's whole heads (FreeSurfer's ids), from which the heads are made.
        flair: also make a FLAIR of each, which IXI does not have.
        jobs: subjects made at once; default: one per core, at most 4.
    """
    from scripts.cohort.ixi_cohort import cohort_ixi as make

    make(out, guys, hh, iop, seed, spacing, jobs, label_maps, flair)


def cohort_arc(
    out: str,
    subjects: int = 30,
    seed: int = 0,
    spacing: float | None = None,
    label_maps: str | None = None,
    lesions: str | None = None,
    jobs: int | None = None,
) -> None:
    """Make the embedded ARC cohort: simulated heads with chronic stroke lesions, as BIDS like ds004884.

    Args:
        out: folder to make; an interrupted one is continued.
        subjects: how many.
        seed: the same seed makes the same bytes.
        spacing: isotropic voxel size [mm]; default: 1 mm (FLAIR 0.9 mm).
        label_maps: folder of label maps of people's whole heads (FreeSurfer's ids), from which the heads are made.
        lesions: folder of masks of stroke lesions in MNI space, needed with label_maps.
        jobs: subjects made at once; default: one per core, at most 4.
    """
    from scripts.cohort.arc_cohort import cohort_arc as make

    make(out, subjects, seed, spacing, jobs, label_maps, lesions)


def prepare_ixi(
    source: str,
    out: str,
    download: bool = False,
    labels: str | None = None,
    mirror: str | None = None,
    verify: bool = True,
    jobs: int | None = None,
) -> None:
    """Prepare IXI for ixi_seg and ixi_denoise: images, tissue maps, split, quality page. Exit status 3: some failed.

    Args:
        source: folder with IXI-T1.tar, IXI-T2.tar, IXI-PD.tar, or with the files they hold.
        out: folder for the result; an interrupted one is continued.
        download: fetch the tar files that the source lacks into it first (12 GB).
        labels: folder of SPM's c1, c2, c3 maps; default: looked for in the source, else maps are made here.
        mirror: address of a folder to download from instead of the official one.
        verify: whether the tar files must have the published checksums.
        jobs: subjects at once; default: one per core, at most 8.
    """
    from scripts.prepare.prepare_ixi import prepare_ixi as prepare

    _end(prepare(source, out, download=download, labels=labels, mirror=mirror, verify_sums=verify, jobs=jobs))


def prepare_arc(source: str, out: str, download: bool = False, jobs: int | None = None) -> None:
    """Prepare ARC (OpenNeuro ds004884) for arc_lesion: T1w and FLAIR registered to the T2w of the lesion mask.

    Exit status 3: some subjects failed.

    Args:
        source: root of the BIDS dataset.
        out: folder for the result; an interrupted one is continued.
        download: fetch what the source lacks of version 1.0.2 into it first (2.4 GB).
        jobs: subjects at once; default: one per core, at most 8.
    """
    from scripts.prepare.prepare_arc import prepare_arc as prepare

    _end(prepare(source, out, download=download, jobs=jobs))


def prepare_qmri(
    source: str,
    out: str,
    units: dict[str, str] | None = None,
    mask: str = "auto",
    spacing: float | None = None,
    jobs: int | None = None,
) -> None:
    """Prepare quantitative maps (hMRI toolbox, BIDS, masked_*.nii) for pretrain_seqinv. Exit status 3: some failed.

    Args:
        source: folder of the maps.
        out: folder for the result, a BIDS derivative; an interrupted one is continued.
        units: of maps whose units are not to be inferred, such as '{"r1": "1e-3/s"}'.
        mask: auto, or the pattern of the names of brain masks.
        spacing: isotropic voxel size [mm]; default: as they are.
        jobs: subjects at once; default: one per core, at most 8.
    """
    from scripts.prepare.prepare_qmri import prepare_qmri as prepare

    _end(prepare(source, out, units=units, mask=mask, spacing=spacing, jobs=jobs))


def _end(summary: Summary) -> None:
    if summary.failed:
        sys.exit(SOME_FAILED)
