"""What a cell of a grid runs: its place, and its bundle's configs with their settings, step by step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.bundles import BUNDLES
from scripts.errors import InputError
from scripts.experiment.grid.cells import Cell
from scripts.literals import literals
from scripts.tasks import LAYOUTS, PRETRAIN, SYNTHETIC

__all__ = ["Job", "Place", "Step", "steps_of"]

_SIMULATED = "synthetic.json"


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


@dataclass(frozen=True)
class Step:
    """A run of the bundle: its configs, and overrides in the language of configs."""

    configs: list[str]
    settings: dict[str, Any]

    @property
    def is_training(self) -> bool:
        """Whether it trains; it evaluates otherwise."""
        return "evaluate.json" not in self.configs


def steps_of(job: Job) -> list[Step]:
    """Return the training of a cell, the evaluation on its own modality and those on others.

    What only the evaluation has, such as the number of its views, is left out of the training, and what only the
    training has of its evaluations.
    """
    cell, folder = job.cell, job.place.folder(job.name)
    shown = tuple(name for name in cell.configs if not (cell.maps and name == _SIMULATED))
    training, evaluation = ["train.json", *cell.configs], ["train.json", *shown, "evaluate.json"]
    known = {name: _ids(cell, names) for name, names in (("training", training), ("evaluation", evaluation))}
    unknown = {name.partition("::")[0] for name in cell.settings} - known["training"] - known["evaluation"]
    if unknown:
        raise InputError(f"the preset sets {', '.join(sorted(unknown))}, which no config of {cell.bundle} has")
    settings = {**cell.settings, **literals(_places(job))}
    learnt, seen = ({k: v for k, v in settings.items() if k.partition("::")[0] in known[w]} for w in known)
    if cell.maps and _SIMULATED in cell.configs:
        own = literals({"dataset_dir": job.place.data[LAYOUTS[PRETRAIN]], "work_dir": _work(job, PRETRAIN, cell.maps)})
        learnt |= {"modality": SYNTHETIC, **own}
        seen |= literals({"run_memory": str(folder / "models" / "mlflow_run.json")})
    steps = [Step(training, learnt), Step(evaluation, seen)]
    for modality in cell.tested_on:
        own = {"modality": modality, "cross_modality": True, "keep_cases": False, "embed": False}
        there = literals({"output_dir": str(folder / "eval" / modality)})
        steps.append(Step(evaluation, {k: v for k, v in seen.items() if k != "run_memory"} | own | there))
    return steps


def _ids(cell: Cell, names: Sequence[str]) -> set[str]:
    """Return the names of the settings that configs of a cell's bundle have."""
    paths = (BUNDLES / cell.bundle / "configs" / name for name in names)
    return {key for path in paths for key in json.loads(path.read_text(encoding="utf-8"))}


def _places(job: Job) -> dict[str, Any]:
    """Return the settings that say where a cell reads and writes."""
    cell, place = job.cell, job.place
    folder = place.folder(cell.name)
    places = {
        "dataset_dir": place.data[LAYOUTS[cell.task]],
        "work_dir": _work(job, cell.task, cell.data),
        "ckpt_dir": str(folder / "models"),
        "output_dir": str(folder / "eval"),
        "tracking_uri": place.uri,
        "experiment": f"grid-{place.grid}",
        "cell": f"{place.grid}/{cell.name}",
    }
    if cell.maps:
        places["maps_dir"] = place.data[LAYOUTS[PRETRAIN]]
    return {**places, "encoder_bundle": str(place.folder(cell.encoder))} if cell.encoder else places


def _work(job: Job, task: str, data: str) -> str:
    digest = hashlib.sha256(data.encode()).hexdigest()[:8]
    return str(job.place.out / "work" / f"{LAYOUTS[task]}-{digest}")
