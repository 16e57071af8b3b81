"""The grids that come along, as JSON: `mini`, `gpu` and `paper`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.errors import InputError

__all__ = ["PRESETS", "Preset", "TaskGrid", "load_preset"]

_FOLDER = Path(__file__).with_name("presets")

PRESETS = ("mini", "gpu", "paper")


@dataclass(frozen=True)
class TaskGrid:
    """One task of a preset.

    Attributes:
        modalities: that it is trained and tested on.
        fractions: label fractions.
        configs: overlays on the bundle's train.json.
        settings: overrides on top of them.
        seconds: what a run of it takes of the whole machine that the preset is made for (half of its time where two
            run side by side); 0 where nobody knows.
    """

    modalities: tuple[str, ...] = ()
    fractions: tuple[float, ...] = ()
    configs: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Preset:
    """A grid before it is expanded.

    Attributes:
        name: mini, gpu, paper, or the stem of the user's own file.
        description: of what it is, in a line.
        cohorts: arguments of the embedded cohorts ``qmri``, ``ixi``, ``arc``; None where real data are needed.
        variants: that are compared.
        seeds: of weights, views, patches and label subsets.
        pretrain: overlays, settings and seconds of the pretraining.
        tasks: the downstream tasks by bundle.
        study: further variants of the pretraining, by name: overlays and settings on top of ``pretrain``.
        study_tasks: modalities and fractions on which these are tested.
    """

    name: str
    description: str
    cohorts: dict[str, dict[str, Any]] | None
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    pretrain: TaskGrid
    tasks: dict[str, TaskGrid]
    study: dict[str, TaskGrid]
    study_tasks: dict[str, TaskGrid]


def load_preset(name: str | Path) -> Preset:
    """Return a preset by its name, or from a JSON file of the same form.

    Raises:
        InputError: there is no such preset or file, or it is no preset.
    """
    path = _FOLDER / f"{name}.json" if str(name) in PRESETS else Path(name)
    if not path.is_file():
        raise InputError(f"preset {str(name)!r} is unknown: choose {', '.join(PRESETS)}, or give a JSON file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        study = content.get("study", {"variants": {}, "tasks": {}})
        return Preset(
            name=path.stem,
            description=content["_desc_"],
            cohorts=content["cohorts"],
            variants=tuple(content["variants"]),
            seeds=tuple(int(seed) for seed in content["seeds"]),
            pretrain=_part(content["pretrain"]),
            tasks={task: _part(part) for task, part in content["tasks"].items()},
            study={variant: _part(part) for variant, part in study["variants"].items()},
            study_tasks={task: _part(part) for task, part in study["tasks"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no preset ({error!r}): see scripts/experiment/grid/presets/mini.json") from error


def _part(content: dict[str, Any]) -> TaskGrid:
    return TaskGrid(
        modalities=tuple(content.get("modalities", ())),
        fractions=tuple(float(fraction) for fraction in content.get("fractions", ())),
        configs=tuple(content.get("configs", ())),
        settings=dict(content.get("settings", {})),
        seconds=float(content.get("seconds", 0.0)),
    )
