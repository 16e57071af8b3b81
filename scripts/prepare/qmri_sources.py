"""Recognising quantitative maps on a disk: hMRI-toolbox results, BIDS, and the published ``masked_*`` files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scripts.errors import InputError
from scripts.prepare.qmri_names import Place, name_folder, name_word

__all__ = ["KINDS", "MapSource", "Scan", "find_scans"]

KINDS: dict[str, dict[str, tuple[str, ...]]] = {
    "BIDS": {
        "pd": ("PDmap", "M0map"),
        "r1": ("R1map", "T1map"),
        "r2star": ("R2starmap", "T2starmap"),
        "mtsat": ("MTsat",),
        "r2": ("R2map", "T2map"),
    },
    "hMRI": {
        "pd": ("PD", "A"),
        "r1": ("R1",),
        "r2star": ("R2s_WLS1", "R2s_WLS2", "R2s_WLS3", "R2s_NLLS_WLS1", "R2s_NLLS_OLS", "R2s_OLS", "R2s"),
        "mtsat": ("MTsat", "MT"),
    },
    "masked": {"pd": ("masked_pd",), "r1": ("masked_r1",), "r2star": ("masked_r2s",), "mtsat": ("masked_mt",)},
}
"""layout -> map -> what its file is called, the best first: of several, the first is taken."""

_ENDING = r"\.nii(?:\.gz)?$"
_PATTERNS = {
    layout: re.compile(rf"^{base}(?P<kind>{'|'.join(kind for names in kinds.values() for kind in names)}){_ENDING}")
    for (layout, kinds), base in zip(
        KINDS.items(), (r"(?P<base>sub-.+?)_", r"(?P<base>.+?)_", "(?P<base>)"), strict=True
    )
}
_MAP_OF = {(layout, kind): name for layout, kinds in KINDS.items() for name, names in kinds.items() for kind in names}
_SKIPPED = re.compile(r"^\.|^(?:MPM|B1map|RFsens)Calc$")  # hMRI's intermediate images are named like its results
_SECOND = "Supplementary"


@dataclass(frozen=True)
class MapSource:
    """A map's file and what its name says that it is, such as ``T1map``."""

    path: Path
    kind: str


@dataclass(frozen=True)
class Scan:
    """The maps of one subject and session.

    Attributes:
        subject: ``sub-<label>``.
        session: ``ses-<label>`` or None.
        group: of the subject, where the source tells one.
        folder: where the maps lie.
        maps: pd, r1, r2star, mtsat, r2 -> file; some may be absent.
        mask: a given brain mask.
        problem: why the scan cannot be prepared, in one line.
    """

    subject: str
    session: str | None
    group: str | None
    folder: Path
    maps: dict[str, MapSource]
    mask: Path | None = None
    problem: str | None = None

    @property
    def prefix(self) -> str:
        """What the names of its prepared files begin with."""
        return f"{self.subject}_{self.session}" if self.session else self.subject


@dataclass(frozen=True)
class _Candidate:
    layout: str
    base: str
    name: str
    source: MapSource


def find_scans(source: str | Path, *, mask: str | None = None) -> dict[str, list[Scan]]:
    """Return the scans of each subject below ``source``, both sorted; those that cannot be used tell a problem.

    Args:
        source: folder of any depth.
        mask: a glob of brain masks, relative to the folder that holds a scan's maps; None looks for
            ``*_desc-brain_mask.nii*`` beside BIDS maps and for ``fg_mask.nii*`` beside the published ones.

    Raises:
        InputError: if nothing below ``source`` looks like maps.
    """
    source = Path(source)
    scans = [scan for folder, names in _walk(source) for scan in _scans_of(source, folder, names, mask)]
    if not scans:
        raise InputError(
            f"no quantitative maps below {source}: expected hMRI results (*_R1.nii), BIDS (sub-*_R1map.nii.gz or "
            "_T1map) or masked_r1.nii"
        )
    subjects: dict[str, list[Scan]] = {}
    for scan in sorted(scans, key=lambda one: (one.subject, one.session or "", str(one.folder))):
        subjects.setdefault(scan.subject, []).append(scan)
    return {subject: _refuse_duplicates(found) for subject, found in subjects.items()}


def _walk(source: Path) -> Iterator[tuple[Path, list[str]]]:
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not _SKIPPED.match(name) and name != _SECOND)
        yield Path(folder), sorted(name for name in names if not name.startswith("."))


def _scans_of(source: Path, folder: Path, names: Sequence[str], mask: str | None) -> Iterator[Scan]:
    """Yield the scans whose maps lie in one folder."""
    layout = _layout_of(folder, names)
    if layout is None:
        return
    found = _candidates(layout, folder, names)
    second = folder / _SECOND
    if layout == "hMRI" and second.is_dir():
        main = {one.name for one in found}
        more = _candidates(layout, second, sorted(path.name for path in second.iterdir()))
        found += [one for one in more if one.name not in main]
    groups = _group(found)
    for base, maps in groups.items():
        place = name_folder(source, folder, layout, base, alone=len(groups) == 1)
        yield _make_scan(place, folder, layout, maps, mask, alone=len(groups) == 1)


def _layout_of(folder: Path, names: Sequence[str]) -> str | None:
    """Return which layout the maps in a folder have: that of an R1 map, else that of others in a likely place."""
    kinds: dict[str, set[str]] = {}
    for layout in ("masked", "BIDS", "hMRI"):
        matches = (_PATTERNS[layout].match(name) for name in names)
        kinds[layout] = {_MAP_OF[layout, match["kind"]] for match in matches if match}
    for layout, found in kinds.items():
        if "r1" in found:
            return layout
    likely = {"masked": True, "BIDS": folder.name == "anat", "hMRI": folder.name == "Results"}
    return next((layout for layout, found in kinds.items() if found and likely[layout]), None)


def _candidates(layout: str, folder: Path, names: Sequence[str]) -> list[_Candidate]:
    found = []
    for name in names:
        match = _PATTERNS[layout].match(name)
        # SPM puts its letters before the name of the image that it works on: c1*, ws*
        derived = layout == "hMRI" and any(name != other and name.endswith(other) for other in names)
        if match and not derived:
            source = MapSource(folder / name, match["kind"])
            found.append(_Candidate(layout, match["base"], _MAP_OF[layout, match["kind"]], source))
    return found


def _group(found: Sequence[_Candidate]) -> dict[str, list[_Candidate]]:
    """Return the maps of each scan in a folder: one if there is one R1, however the other maps are called."""
    bases = sorted({_scan_of(one) for one in found if one.name == "r1"}) or sorted({_scan_of(one) for one in found})
    if len(bases) == 1:
        return {bases[0]: list(found)}
    groups: dict[str, list[_Candidate]] = {}
    for one in found:
        groups.setdefault(_scan_of(one), []).append(one)
    return groups


def _scan_of(one: _Candidate) -> str:
    if one.layout != "BIDS":
        return one.base
    return "_".join(part for part in one.base.split("_") if part.startswith(("sub-", "ses-")))


def _make_scan(
    place: Place, folder: Path, layout: str, found: Sequence[_Candidate], pattern: str | None, *, alone: bool
) -> Scan:
    problem = None
    maps: dict[str, MapSource] = {}
    mask = None
    try:
        if place.crowded:
            raise InputError(
                f"{folder} holds the maps of several scans ({place.crowded}): give each a folder of its own"
            )
        held = {one.name for one in found}
        maps = {name: _choose(layout, name, found) for name in KINDS["BIDS"] if name in held}
        if "r1" not in maps:
            raise InputError(f"{folder} has no R1 (or T1) map, which nothing can stand in for: add it")
        mask = _find_mask(folder, layout, place, pattern, alone=alone)
    except InputError as error:
        problem = str(error)
    return Scan(place.subject, place.session, place.group, folder, maps, mask, problem)


def _choose(layout: str, name: str, found: Sequence[_Candidate]) -> MapSource:
    ranks = KINDS[layout][name]
    files = sorted((one.source for one in found if one.name == name), key=lambda one: ranks.index(one.kind))
    same = [one for one in files if one.kind == files[0].kind]
    if len(same) > 1:
        raise InputError(f"{same[0].path} and {same[1].path.name} are both the {same[0].kind} of one scan: keep one")
    return files[0]


def _find_mask(folder: Path, layout: str, place: Place, pattern: str | None, *, alone: bool) -> Path | None:
    given = pattern is not None
    if pattern is None:
        if layout == "hMRI":
            return None
        pattern = f"{place.subject}*_desc-brain_mask.nii*" if layout == "BIDS" else "fg_mask.nii*"
    masks = sorted(path for path in folder.glob(pattern) if path.is_file())
    if not alone:
        masks = [path for path in masks if name_word(path.name).startswith(name_word(place.base))]
    if len(masks) > 1:
        raise InputError(f"{masks[0]} and {masks[1].name} are both brain masks: choose by --mask 'PATTERN'")
    if given and not masks:
        raise InputError(f"{folder} has no file {pattern}, as --mask says: correct the pattern or add the mask")
    return masks[0] if masks else None


def _refuse_duplicates(found: Sequence[Scan]) -> list[Scan]:
    """Return the scans of a subject, with a problem where two of them have one name."""
    folders: dict[str, Path] = {}
    checked = []
    for scan in found:
        first = folders.get(scan.prefix)
        folders.setdefault(scan.prefix, scan.folder)
        if first is not None and scan.problem is None:
            text = f"{scan.prefix} is found twice, in {first} and in {scan.folder}: rename one, or give one as --source"
            checked.append(replace(scan, problem=text))
        else:
            checked.append(scan)
    return checked
