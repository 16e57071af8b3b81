"""One cell of a grid: its commands, whether it is finished, and running it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.bundles import BUNDLES, bundle_command, run_bundle
from scripts.errors import InputError, find_input_error, root_cause
from scripts.experiment.launch.steps import Job, steps_of
from scripts.experiment.launch.torchrun import run_torchrun, torchrun_command
from scripts.io.files import atomic_write
from scripts.tasks import PRETRAIN, TASKS

__all__ = ["commands", "execute", "headline", "is_finished"]

_TESTED_ON = "tested_on"


def commands(job: Job) -> list[str]:
    """Return what one would type to do the same on one device: training, then evaluation of each modality."""
    return [bundle_command(step.configs, step.settings, job.cell.bundle) for step in steps_of(job)]


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
    if job.cell.tested_on and tags.get(_TESTED_ON) != ",".join(job.cell.tested_on):
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
            for step in steps_of(job):
                settings, gpus = step.settings, job.place.gpus
                if gpus > 1 and step.is_training:
                    paths = [BUNDLES / job.cell.bundle / "configs" / name for name in step.configs]
                    sys.stdout.write(f"{shlex.join(torchrun_command(gpus, paths, settings))}\n")
                    run_torchrun(gpus, paths, settings)
                else:
                    sys.stdout.write(f"{bundle_command(step.configs, settings, job.cell.bundle)}\n")
                    run_bundle(step.configs, {}, job.cell.bundle, settings)
            if job.cell.tested_on or job.cell.maps:
                _record_across(job)


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


def _record_across(job: Job) -> None:
    """Put the scores on all modalities into the cell's own run, under the name of the cell's modality."""
    import pandas as pd

    from scripts.handlers.mlflow_store import open_store

    folder, cell = job.place.folder(job.name), job.cell
    parts = [folder / "eval", *(folder / "eval" / modality for modality in cell.tested_on)]
    table = pd.concat([pd.read_csv(part / "metrics.csv") for part in parts], ignore_index=True)
    path = folder / "eval" / "across.csv"
    atomic_write(path, lambda part: table.rename(columns={"modality": "tested"}).to_csv(part, index=False))
    client = open_store(job.place.uri)
    run = json.loads((folder / "models" / "mlflow_run.json").read_text())["run_id"]
    client.log_artifact(run, str(path))
    for tag, value in (
        ("modality", cell.modality),
        ("fraction", cell.fraction),
        (_TESTED_ON, ",".join(cell.tested_on)),
    ):
        client.set_tag(run, tag, str(value))


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
