"""Real layouts of the data, made of the embedded cohorts."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.prepare import registration
from scripts.prepare.prepare_ixi import prepare_ixi

MORE = ("sub-M2006*", "sub-M2007*")


@contextmanager
def quick_registration(levels: int = 1) -> Iterator[None]:
    """Registration in this process begins where the files place the images, not turned, and ends at 6 mm."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_NODS", "_TILTS", "_TURNS"):
            patch.setattr(registration, name, (0,))
        patch.setattr(registration, "_LEVELS", registration._LEVELS[:levels])
        yield


@pytest.fixture(scope="session")
def ixi_cohort(small_cohorts: dict[str, Path], shared: Callable[[str, Callable[[Path], Any]], Any]) -> Path:
    """Two subjects of Guy's, one of each other site, with the maps that they were made of."""

    def make(folder: Path) -> Path:
        for name in ("IXI002-Guys", "IXI003-HH", "IXI004-IOP", "IXI005-Guys"):
            for path in small_cohorts["ixi"].glob(f"*{name}-*"):
                shutil.copy(path, folder)
        return folder

    made: Path = shared("ixi_to_prepare", make)
    return made


@pytest.fixture(scope="session")
def arc_cohort(small_cohorts: dict[str, Path], shared: Callable[[str, Callable[[Path], Any]], Any]) -> Path:
    """Five subjects."""

    def make(folder: Path) -> Path:
        return Path(shutil.copytree(small_cohorts["arc"], folder / "raw", ignore=shutil.ignore_patterns(*MORE)))

    made: Path = shared("arc_to_prepare", make)
    return made


@pytest.fixture(scope="session")
def coarse_arc(arc_cohort: Path, shared: Callable[[str, Callable[[Path], Any]], Any]) -> Path:
    """The same of every second voxel of 4 mm: registered in a moment, to some millimetres."""

    def make(folder: Path) -> Path:
        raw = Path(shutil.copytree(arc_cohort, folder / "raw"))
        for path in raw.rglob("*.nii.gz"):
            nib.save(nib.load(path).slicer[::2, ::2, ::2], path)
        return raw

    made: Path = shared("coarse_arc", make)
    return made


@pytest.fixture(scope="session")
def prepared_ixi(ixi_cohort: Path, shared: Callable[[str, Callable[[Path], Any]], Any]) -> Path:
    """One subject of each site, packed as the download is, prepared without any maps."""

    def make(folder: Path) -> Path:
        source = write_tars(ixi_cohort, folder / "download", but="IXI005")
        with quick_registration():
            summary = prepare_ixi(str(source), str(folder / "out"), verify_sums=False, jobs=1)
        assert summary.failed == {}
        assert (summary.subjects, summary.made) == (3, 3)
        return folder / "out"

    made: Path = shared("prepared_ixi", make)
    return made


@pytest.fixture
def ixi_tars(ixi_cohort: Path, tmp_path: Path) -> Path:
    """The download of IXI: three flat tar files."""
    return write_tars(ixi_cohort, tmp_path / "download")


@pytest.fixture
def ixi_files(ixi_cohort: Path, tmp_path: Path) -> Path:
    """The images of the cohort, unpacked into a folder a kind."""
    return unpack(ixi_cohort, tmp_path / "raw")


@pytest.fixture
def ixi_labelled(ixi_cohort: Path, tmp_path: Path) -> Path:
    """The same with maps of SPM for each T1."""
    return unpack(ixi_cohort, tmp_path / "raw", maps=("T1",))


@pytest.fixture
def arc_raw(coarse_arc: Path, tmp_path: Path) -> Path:
    """A copy of the coarse ARC cohort, to be damaged."""
    return Path(shutil.copytree(coarse_arc, tmp_path / "ds004884"))


def unpack(cohort: Path, folder: Path, *, maps: Sequence[str] = ()) -> Path:
    for kind in ("T1", "T2", "PD"):
        (folder / kind).mkdir(parents=True)
        prefix = "*" if kind in maps else ""
        for path in sorted(cohort.glob(f"{prefix}IXI*-{kind}.nii.gz")):
            shutil.copy(path, folder / kind)
    return folder


def write_tars(cohort: Path, folder: Path, *, but: str = "-") -> Path:
    folder.mkdir()
    for kind in ("T1", "T2", "PD"):
        with tarfile.open(folder / f"IXI-{kind}.tar", "w") as tar:
            for path in sorted(cohort.glob(f"IXI*-{kind}.nii.gz")):
                if not path.name.startswith(but):
                    tar.add(path, path.name)
    return folder


@pytest.fixture
def tree() -> Callable[[Path], dict[str, bytes]]:
    """All files of a folder by name."""

    def read(folder: Path) -> dict[str, bytes]:
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    return read


MIDDLE = np.array([0.0, -22.0, -10.0])  # of a head in the world [mm]


def about_middle(angles: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    """World to world (4, 4): turned about x, y, z [degrees] around the middle of a head, then moved [mm]."""
    to, back = np.eye(4), np.eye(4)
    to[:3, 3], back[:3, 3] = MIDDLE, -MIDDLE
    return to @ rigid(angles, shift) @ back


def rigid(angles: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    """World to world (4, 4): turned about x, y, z [degrees] around the origin, then moved [mm]."""
    matrix = np.eye(4)
    for axis, angle in enumerate(np.deg2rad(angles)):
        turn = np.eye(4)
        i, j = [other for other in range(3) if other != axis]
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    matrix[:3, 3] = shift
    return matrix
