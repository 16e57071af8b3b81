"""The grids that come along, as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scripts.errors import InputError

__all__ = ["PRESETS", "Preset", "Recipe", "TaskGrid", "load_preset", "with_label_maps"]

_FOLDER = Path(__file__).with_name("presets")

PRESETS = ("quick", "mini", "gpu", "paper")


@dataclass(frozen=True)
class TaskGrid:
    """One task of a preset.

    Attributes:
        modalities: that it is trained and tested on.
        fractions: label fractions.
        configs: overlays on the bundle's train.json.
        settings: overrides on top of them.
        variants: that it is run for; none is all of the preset's.
        tested_on: modalities that its networks are tested on besides the one that they were trained on.
        seconds: what a run of it takes of the whole machine that the preset is made for (half of its time where two
            run side by side); 0 where nobody knows.
    """

    modalities: tuple[str, ...] = ()
    fractions: tuple[float, ...] = ()
    configs: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    variants: tuple[str, ...] = ()
    tested_on: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """A way to come by a task's network, compared with others on the same tasks.

    Attributes:
        words: what it does, for people.
        encoder: variant of the pretraining that it starts from, of the paper's or the study's; ``random`` or
            ``scratch`` for none.
        configs: overlays on the task's train.json, those of the preset and these.
        settings: overrides on top of the preset's and of the cell's.
        simulated: whether it learns from simulated contrasts of labelled maps, in place of images (`synthetic.json`)
            or beside them (`mixed.json`).
    """

    words: str
    encoder: str
    configs: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    simulated: bool = False


@dataclass(frozen=True)
class Preset:
    """A grid before it is expanded.

    Attributes:
        name: of `PRESETS`, or the stem of the user's own file.
        description: of what it is, in a line.
        cohorts: arguments of the embedded cohorts ``qmri``, ``ixi``, ``arc``; None where real data are needed.
        variants: that are compared.
        seeds: of weights, views, patches and label subsets.
        pretrain: overlays, settings and seconds of the pretraining.
        tasks: the downstream tasks by bundle.
        study: further variants of the pretraining, by name: overlays and settings on top of ``pretrain``.
        study_tasks: modalities and fractions on which these are tested.
        recipes: ways to use a pretraining or none, by name; they may stand in ``variants``.
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
    recipes: dict[str, Recipe]


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
            recipes={name: _recipe(part) for name, part in content.get("recipes", {}).items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no preset ({error!r}): see scripts/experiment/grid/presets/mini.json") from error


def with_label_maps(preset: Preset, label_maps: str | None, lesions: str | None = None) -> Preset:
    """Return a preset whose embedded cohorts are heads of people, made from label maps.

    Args:
        preset: the grid.
        label_maps: folder of label maps of whole heads; None changes nothing.
        lesions: folder of masks of lesions in MNI space, without which there is no cohort of lesions.

    Raises:
        InputError: no such folder, lesions without label maps, or a preset for real data.
    """
    for name, folder in (("label_maps", label_maps), ("lesions", lesions)):
        if folder and not Path(folder).is_dir():
            raise InputError(f"--{name} {folder} is no folder: give that of the files")
    if not label_maps:
        if lesions:
            raise InputError("--lesions are for heads from label maps: give --label_maps, or leave it out")
        return preset
    if preset.cohorts is None:
        raise InputError(f"the preset {preset.name} is for real data: leave --label_maps out")
    maps = {"label_maps": str(Path(label_maps).resolve())}
    masks = {"lesions": str(Path(lesions).resolve())} if lesions else {}
    more: dict[str, dict[str, Any]] = {
        "qmri": {**maps, **masks, "whole_heads": True},
        "ixi": maps,
        "arc": {**maps, **masks},
    }
    return replace(preset, cohorts={layout: {**own, **more[layout]} for layout, own in preset.cohorts.items()})


def _part(content: dict[str, Any]) -> TaskGrid:
    return TaskGrid(
        modalities=tuple(content.get("modalities", ())),
        fractions=tuple(float(fraction) for fraction in content.get("fractions", ())),
        configs=tuple(content.get("configs", ())),
        settings=dict(content.get("settings", {})),
        variants=tuple(content.get("variants", ())),
        tested_on=tuple(content.get("tested_on", ())),
        seconds=float(content.get("seconds", 0.0)),
    )


def _recipe(content: dict[str, Any]) -> Recipe:
    return Recipe(
        words=str(content["words"]),
        encoder=str(content["encoder"]),
        configs=tuple(content.get("configs", ())),
        settings=dict(content.get("settings", {})),
        simulated=bool(content.get("simulated", False)),
    )
