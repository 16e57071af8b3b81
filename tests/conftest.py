"""What all tests share: temporary files in memory, commands by a fork, things made once for all workers."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the workers of pytest-xdist share the cores

import nibabel as nib
import numpy as np
import pytest
from filelock import FileLock

from tests.commands.client import Commands
from tests.commands.ready_store import make_ready_store, use_ready_store
from tests.commands.spawning import stop_spawning
from tests.on_demand import OnDemand

pytest_plugins = ["tests.packed_bundles"]

ROOT = Path(__file__).resolve().parents[1]
MEMORY = Path("/dev/shm")  # a file system in memory, on Linux
ROOM = 4 << 30  # bytes
READY_STORE = "mlruns.db"
LONGEST = "test_server.py"  # of MONAI Label, where it is installed: a tenth of all
RUNNING = stop_spawning()  # what forks in the place of new Pythons, where this is a fork of it


def pytest_configure() -> None:
    """Keep temporary files in memory where there is room: every MLflow store waits for a disk hundreds of times.

    Modules are kept compiled, also where the environment says otherwise: hundreds of processes import them. Commands
    heed Ctrl-C, also where a shell began the tests in the background, where all would ignore it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Let the workers be forks of one process that has the libraries loaded, and their commands forks of its copies.

    Where there is a GPU they are new Pythons, as that process does not see it.
    """
    config = session.config
    card = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()
    if "PYTEST_XDIST_WORKER" in os.environ or config.getoption("dist", "no") == "no" or card:
        return
    commands, stack = Commands(config._tmp_path_factory.getbasetemp() / READY_STORE), ExitStack()  # type: ignore[attr-defined]
    config.add_cleanup(commands.stop)
    config.add_cleanup(stack.close)
    stack.enter_context(commands.spawning())


@pytest.hookimpl(wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Return one more than there are cores, as tests wait for each other and for what they start."""
    return (yield) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no core waits for it at the end; skip what needs a GPU without one."""
    import torch

    items.sort(key=lambda item: item.path.name != LONGEST)
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_collection_finish() -> None:
    """Let the collector of garbage pass over what stays: a million objects of libraries and tests, a second a walk."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], Any]], Any]:
    """Make something in a new folder once for all workers and return what its maker returned; change none of it."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def get(name: str, make: Callable[[Path], Any]) -> Any:
        folder, record = base / name, base / f"{name}.pickle"
        with FileLock(base / f"{name}.lock"):
            if not record.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a maker that failed
                folder.mkdir()
                record.write_bytes(pickle.dumps(make(folder)))
            return pickle.loads(record.read_bytes())

    return get


@pytest.fixture(scope="session")
def small_cohorts(shared: Callable[[str, Callable[[Path], Any]], Any]) -> dict[str, Path]:
    """The three embedded cohorts at 4 mm, seed 0: ten subjects; heads of five (Guys), one (HH), one (IOP); seven."""

    def make(layout: str, folder: Path) -> Path:
        from scripts.cohort.arc_cohort import make_arc_cohort
        from scripts.cohort.ixi_cohort import make_ixi_cohort
        from scripts.cohort.qmri_cohort import make_qmri_cohort

        if layout == "qmri":
            return make_qmri_cohort(folder / "qmri", 10, 0, 4.0, progress=False)
        if layout == "ixi":
            return make_ixi_cohort(folder / "ixi", guys=5, hh=1, iop=1, seed=0, spacing=4.0, progress=False)
        return make_arc_cohort(folder / "arc", 7, seed=0, spacing=4.0, progress=False)

    return OnDemand(lambda layout: shared(f"small_{layout}", lambda folder: make(layout, folder)))


@pytest.fixture(scope="session")
def ready_store(shared: Callable[[str, Callable[[Path], Any]], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store, which new stores in this process and in commands are copies of."""
    if RUNNING is not None:
        return tmp_path_factory.getbasetemp().parent / READY_STORE
    path: Path = shared("ready_store", lambda folder: make_ready_store(folder / READY_STORE))
    use_ready_store(path)
    return path


@pytest.fixture(scope="session")
def commands(ready_store: Path) -> Iterator[Commands]:
    """Runs and starts command lines of Python, see `Commands`."""
    made = Commands(ready_store, RUNNING)
    yield made
    made.stop()


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment of a user who set nothing, on few threads."""
    set_by_him = ("MLFLOW", "MONAI", "PYTHONPATH", "SEQINV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(set_by_him)}
    return {**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="session")
def execute(commands: Commands, environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command to its end and return what it said; ``anew``, in a new process of Python instead of a fork."""

    def run(
        command: list[str], cwd: Path = ROOT, timeout: float = 900, *, anew: bool = False
    ) -> subprocess.CompletedProcess[str]:
        if not anew:
            return commands.run(command, cwd=cwd, env=environment, timeout=timeout)
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    return run


@pytest.fixture
def forked_processes(commands: Commands) -> Iterator[None]:
    """The Pythons that this process begins, also by multiprocessing, are forks of one that has the libraries loaded."""
    with commands.spawning():
        yield


@pytest.fixture(scope="session")
def checks_forked(commands: Commands) -> Callable[[], AbstractContextManager[None]]:
    """Within it, the check that a staged bundle stands on its own is a fork; tests/package has it as a new process."""

    def run(words: list[str], *, cwd: Path, env: dict[str, str], **_: Any) -> Any:
        python = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
        return commands.run(words, cwd=cwd, env={**env, **python})

    @contextmanager
    def within() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("scripts.package.stage.subprocess", SimpleNamespace(run=run))
            yield

    return within


@pytest.fixture(scope="session")
def package(checks_forked: Callable[[], AbstractContextManager[None]]) -> Callable[..., Any]:
    """Pack a bundle with `scripts.package.package_bundle`."""
    from scripts.package import package_bundle

    def make(*given: Any) -> Any:
        with checks_forked():
            return package_bundle(*given)

    return make


TISSUES = {  # PD [p.u.], R1 [1/s], R2* [1/s], MTsat [p.u.], R2 [1/s] at 3 T
    "gm": (80.0, 0.62, 17.0, 0.85, 13.5),
    "wm": (70.0, 0.95, 21.0, 1.55, 14.1),
    "csf": (100.0, 0.24, 2.0, 0.03, 0.7),
}
SUFFIXES = ("PDmap", "R1map", "R2starmap", "MTsat", "R2map")


def phantom(shape: tuple[int, int, int], seed: int) -> dict[str, np.ndarray]:
    """An ellipsoid of CSF around grey matter around white matter, 45 % grey and 40 % white, 3 % noise."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    radius = np.sqrt((grid**2).sum(0)) / 0.9
    labels = np.digitize(radius, [0.74, 0.95, 1.0])  # 0 white, 1 grey, 2 CSF, 3 outside
    rng = np.random.default_rng(seed)
    maps = {}
    for i, suffix in enumerate(SUFFIXES):
        table = np.array([TISSUES["wm"][i], TISSUES["gm"][i], TISSUES["csf"][i], 0.0])
        maps[suffix] = (table[labels] * (1 + 0.03 * rng.standard_normal(shape))).astype(np.float32)
    return maps


@pytest.fixture
def write_subject(tmp_path: Path) -> Callable[..., Path]:
    """Write one subject of a BIDS qMRI dataset in tmp_path/qmri and return its anat folder."""

    def write(
        name: str = "sub-001",
        *,
        shape: tuple[int, int, int] = (20, 24, 22),
        affine: np.ndarray | None = None,
        change: dict[str, Any] | None = None,
        leave_out: tuple[str, ...] = (),
        root: str = "qmri",
        session: str | None = None,
        suffix: str = ".nii.gz",
    ) -> Path:
        folder = tmp_path / root / name / (session or "") / "anat"
        folder.mkdir(parents=True, exist_ok=True)
        if affine is None:
            affine = np.array([[2.0, 0, 0, -20], [0, 2.0, 0, -24], [0, 0, 2.0, -22], [0, 0, 0, 1]])
        maps = phantom(shape, seed=sum(map(ord, name + (session or ""))))
        for kind, value in (change or {}).items():
            maps[kind] = value(maps[kind]) if callable(value) else value
        for kind, volume in maps.items():
            if kind not in leave_out:
                prefix = f"{name}_{session}" if session else name
                nib.save(nib.Nifti1Image(volume, affine), folder / f"{prefix}_{kind}{suffix}")
        return folder

    return write


@pytest.fixture
def cohort(write_subject: Callable[..., Path], tmp_path: Path) -> Path:
    """Four subjects; the third lacks R2."""
    for i in range(1, 5):
        write_subject(f"sub-{i:03d}", leave_out=("R2map",) if i == 3 else ())
    (tmp_path / "qmri" / "participants.tsv").write_text(
        "participant_id\tgroup\nsub-001\thealthy\nsub-002\tstroke\nsub-003\tn/a\n"
    )
    return tmp_path / "qmri"


def oblique_affine(spacing: tuple[float, float, float] = (0.9, 1.1, 1.6)) -> np.ndarray:
    """Voxel to world [mm] of a scan tilted by 12 and 7 degrees, closest to RAS+."""
    a, b = np.deg2rad([12.0, 7.0])
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.diag(spacing)
    affine[:3, 3] = (-7.3, 4.1, 11.9)
    return affine


@pytest.fixture
def oblique() -> np.ndarray:
    return oblique_affine()


@pytest.fixture
def write_volume(tmp_path: Path) -> Callable[..., Path]:
    """Write voxels (I, J, K) as a NIfTI file in tmp_path, on the oblique grid where none is given."""

    def write(name: str, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, oblique_affine() if affine is None else affine), path)
        return path

    return write


@pytest.fixture
def write_ixi(write_volume: Callable[..., Path]) -> Callable[..., Path]:
    """Write one image named as IXI's in tmp_path/ixi, with SPM's tissue maps, and return its path."""

    def write(
        stem: str = "IXI002-Guys-0828-T1",
        *,
        folder: str = "",
        ending: str = ".nii.gz",
        maps: tuple[int, ...] = (1, 2, 3),
        maps_affine: np.ndarray | None = None,
    ) -> Path:
        volume = np.arange(60, dtype=np.float32).reshape(4, 5, 3)
        for number in maps:
            write_volume(f"ixi/{folder}/c{number}{stem}{ending}", np.full_like(volume, 0.25), maps_affine)
        return write_volume(f"ixi/{folder}/{stem}{ending}", volume)

    return write


@pytest.fixture
def write_arc(write_volume: Callable[..., Path]) -> Callable[..., None]:
    """Write one session named as in ds004884 in tmp_path/arc, its mask with it."""

    def write(
        subject: str = "sub-M2001",
        session: str = "ses-1253",
        *,
        t2w: str = "acq-spc3_run-3_T2w",
        others: tuple[str, ...] = (),
        image: bool = True,
        mask: bool = True,
        mask_affine: np.ndarray | None = None,
    ) -> None:
        volume = np.arange(60, dtype=np.float32).reshape(4, 5, 3)
        anat, stem = f"{subject}/{session}/anat", f"{subject}_{session}"
        if image:
            write_volume(f"arc/{anat}/{stem}_{t2w}.nii.gz", volume)
        if mask:
            lesion = (volume > 50).astype(np.uint8)
            name = f"arc/derivatives/lesion_masks/{anat}/{stem}_{t2w}_desc-lesion_mask.nii.gz"
            write_volume(name, lesion, mask_affine)
        for other in others:
            spacing = (0.9, 0.9, 3.2) if "tir2" in other else (0.9, 0.9, 0.9)
            write_volume(f"arc/{anat}/{stem}_{other}.nii.gz", volume[:3], oblique_affine(spacing))

    return write
