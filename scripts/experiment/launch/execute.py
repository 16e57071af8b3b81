"""One cell of a grid: its commands, whether it is finished, and running it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.bundles import BUNDLES, bundle_command, run_bundle
from scripts.errors import InputError, find_input_error, root_cause
from scripts.experiment.grid.cells import Cell
from scripts.experiment.launch.torchrun import run_torchrun, torchrun_command
from scripts.io.files import atomic_write
from scripts.literals import literals
from scripts.tasks import LAYOUTS, PRETRAIN, TASKS

__all__ = ["Job", "Place", "commands", "execute", "headline", "is_finished"]

_RESULT = {PRETRAIN: "invariance.csv"}


@dataclass(frozen=True)
class Place:
    """Where a grid lives.

    Attributes:
        grid: its name.
        out: folder of everything.
        uri: MLflow store.
        data: layout (qmri, ixi, arc) -> folder of the dataset.
        gpus: processes of each training, one per GPU; 1 trains in one process.
        command: what one types to run it, without what says where.
    """

    grid: str
    out: Path
    uri: str
    data: Mapping[str, str] = field(hash=False)
    gpus: int = 1
    command: str = ""

    def folder(self, cell: str) -> Path:
        """Return the folder of a cell: ``models``, ``eval`` and ``log.txt``."""
        return self.out / "runs" / cell


@dataclass(frozen=True)
class Job:
    """A cell and its place: all that a process needs to run it."""

    cell: Cell
    place: Place

    @property
    def name(self) -> str:
        """That of the cell."""
        return self.cell.name

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.place.folder(self.name) / "log.txt"


def commands(job: Job) -> list[str]:
    """Return what one would type to do the same on one device: training, then evaluation."""
    return [bundle_command(names, _settings(job, names), job.cell.bundle) for names in _configs(job.cell)]


def is_finished(job: Job, client: Any) -> bool:
    """Tell whether a cell was trained and evaluated: MLflow says so, of the very weights that lie there."""
    from mlflow.exceptions import MlflowException

    folder = job.place.folder(job.name)
    weights = folder / "models" / "model.pt"
    try:
        record = json.loads((folder / "models" / "mlflow_run.json").read_text())
        run = client.get_run(record["run_id"])
    except (OSError, ValueError, KeyError, MlflowException):
        return False
    tags = run.data.tags
    if run.info.status != "FINISHED" or tags.get("evaluated") != "yes" or not weights.is_file():
        return False
    sha = tags.get("encoder_sha" if job.cell.task == PRETRAIN else "model_sha", "")
    return bool(sha == hashlib.sha256(weights.read_bytes()).hexdigest())


def execute(job: Job) -> None:
    """Train and evaluate a cell, continuing what was begun; all that it prints goes to its log.

    Raises:
        InputError: another process is at it, its encoder was not made, or what the bundle refuses.
        RuntimeError: any other failure, in one line; the log has the whole.
    """
    from scripts.handlers.mlflow_store import open_store

    folder = job.place.folder(job.name)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock"):
        if is_finished(job, open_store(job.place.uri)):
            return
        encoder = job.place.folder(job.cell.encoder) / "models" / "model.pt"
        if job.cell.encoder and not encoder.is_file():
            raise InputError(f"its encoder was not made ({job.cell.encoder} failed or did not run)")
        content = {**job.cell.keys(), "configs": job.cell.configs, "settings": dict(job.cell.settings)}
        atomic_write(folder / "cell.json", lambda part: part.write_text(json.dumps(content, indent=4)))
        with _output_to(job.log), _one_line(job.log):
            for names, command in zip(_configs(job.cell), commands(job), strict=True):
                settings, gpus = _settings(job, names), job.place.gpus
                if gpus > 1 and "evaluate.json" not in names:
                    paths = [BUNDLES / job.cell.bundle / "configs" / name for name in names]
                    sys.stdout.write(f"{shlex.join(torchrun_command(gpus, paths, settings))}\n")
                    run_torchrun(gpus, paths, settings)
                else:
                    sys.stdout.write(f"{command}\n")
                    run_bundle(names, {}, job.cell.bundle, settings)


def headline(job: Job) -> str:
    """Return in a few words how good a finished cell is, empty for a pretraining."""
    import pandas as pd

    if job.cell.task == PRETRAIN:
        table = pd.read_csv(job.place.folder(job.name) / "eval" / "invariance.csv")
        row = table[(table["encoder"] == "pretrained") & (table["metric"] == "retrieval_top1")].iloc[0]
        return f"retrieval {row['value']:.3f}"
    task = TASKS[job.cell.task]
    table = pd.read_csv(job.place.folder(job.name) / "eval" / "summary.csv")
    rows = table[(table["metric"] == task.headline.name) & (table["class"] == task.scored)]
    return f"{task.headline.name} " + ", ".join(f"{row.site} {row.mean:.3f}" for row in rows.itertuples())


def _configs(cell: Cell) -> list[list[str]]:
    training = ["train.json", *cell.configs]
    return [training, [*training, "evaluate.json"]]


def _settings(job: Job, names: Sequence[str]) -> dict[str, Any]:
    """Return overrides of configs: those of the cell in their own language, as the preset has them, and places.

    What only the evaluation has, such as the number of its views, is left out of the training.
    """
    cell, place = job.cell, job.place
    folder = place.folder(cell.name)
    layout = LAYOUTS[cell.task]
    work = hashlib.sha256(cell.data.encode()).hexdigest()[:8]
    places = {
        "dataset_dir": place.data[layout],
        "work_dir": str(place.out / "work" / f"{layout}-{work}"),
        "ckpt_dir": str(folder / "models"),
        "output_dir": str(folder / "eval"),
        "tracking_uri": place.uri,
        "experiment": f"grid-{place.grid}",
        "cell": f"{place.grid}/{cell.name}",
    }
    if cell.encoder:
        places["encoder_bundle"] = str(place.folder(cell.encoder))
    settings = {**cell.settings, **literals(places)}
    if "evaluate.json" in names:
        return settings  # all of them; what no config has is refused there
    known: set[str] = set()
    for path in (BUNDLES / cell.bundle / "configs" / name for name in names):
        known.update(json.loads(path.read_text(encoding="utf-8")))
    return {name: value for name, value in settings.items() if name.partition("::")[0] in known}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends."""
    with path.open("w", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another process is running it ({path}): wait for it, or stop it") from error
        yield


@contextmanager
def _one_line(log: Path) -> Iterator[None]:
    """Raise what went wrong as one line, which goes from process to process as a chain of causes does not."""
    try:
        yield
    except Exception as error:
        traceback.print_exception(error)
        known = find_input_error(error)
        if known is not None:
            raise InputError(str(known)) from None
        root = root_cause(error)
        first = str(root).strip().splitlines()[:1] or [""]
        raise RuntimeError(f"{type(root).__name__}: {first[0][:160]}; see {log}") from None


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send all that this process and its libraries print to the end of a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    try:
        with path.open("ab") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
            yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
