"""A preset expanded into cells: bundle runs with all their settings, under names that follow from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scripts.errors import InputError
from scripts.experiment.grid.presets import Preset, Recipe, TaskGrid
from scripts.tasks import LAYOUTS, PRETRAIN, bundle_of
from scripts.variants import ENCODERLESS, PRETRAINED

__all__ = ["Cell", "Choice", "expand"]

_EMBEDDED_BY = "ixi_seg"


@dataclass(frozen=True)
class Cell:
    """One training and its evaluation.

    Attributes:
        task: pretrain, ixi_seg, arc_lesion or ixi_denoise.
        variant: which pretraining.
        modality: trained and tested on; ``qmri`` for the pretraining.
        fraction: label fraction.
        seed: of everything that is drawn.
        configs: overlays on train.json.
        settings: overrides on top, without folders.
        encoder: name of the cell that makes its encoder, empty where there is none.
        data: what identifies its dataset.
        seconds: the preset's estimate.
        tested_on: modalities that it is tested on besides its own.
        maps: what identifies the dataset of maps that it is trained on, in place of images or beside them; else empty.
    """

    task: str
    variant: str
    modality: str
    fraction: float
    seed: int
    configs: tuple[str, ...]
    settings: Mapping[str, Any] = field(hash=False)
    encoder: str
    data: str
    seconds: float
    tested_on: tuple[str, ...] = ()
    maps: str = ""

    @property
    def bundle(self) -> str:
        """The bundle that it runs."""
        return bundle_of(self.task)

    @property
    def name(self) -> str:
        """Readable, and unique to everything that its result depends on: a changed grid makes new cells."""
        told = [self.task, self.variant, self.modality, f"{self.fraction:g}", f"s{self.seed}"]
        return "-".join([*told[: 2 if self.task == PRETRAIN else 4], told[4], self._digest()])

    @property
    def title(self) -> str:
        """For people."""
        if self.task == PRETRAIN:
            return f"pretrain {self.variant}, seed {self.seed}"
        return f"{self.task} {self.variant} {self.modality} {self.fraction:.0%}, seed {self.seed}"

    def keys(self) -> dict[str, Any]:
        """Return what tells it from the other cells of one grid."""
        names = ("task", "variant", "modality", "fraction", "seed")
        return {name: getattr(self, name) for name in names}

    def _digest(self) -> str:
        content: list[Any] = [self.configs, dict(self.settings), self.encoder, self.data]
        content += [part for part in (self.tested_on, self.maps) if part]  # older grids keep their names
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Choice:
    """A part of a grid; None takes what the preset says.

    Attributes:
        tasks: of pretrain, ixi_seg, arc_lesion and ixi_denoise; the pretraining that a task needs is always in.
        variants: base, seqaug, seqinv, random, scratch, and the preset's study variants and recipes.
        modalities: T1w, T2w, PDw, FLAIR.
        fractions: label fractions.
        seeds: whole numbers.
        study: add the study's variants on the study's tasks.
    """

    tasks: Sequence[str] | None = None
    variants: Sequence[str] | None = None
    modalities: Sequence[str] | None = None
    fractions: Sequence[float] | None = None
    seeds: Sequence[int] | None = None
    study: bool = False

    def options(self) -> str:
        """Return it as options of the command line, with a space before each."""
        parts = {
            "task": self.tasks,
            "variant": self.variants,
            "modality": self.modalities,
            "label_fraction": self.fractions,
            "seeds": self.seeds,
        }
        told = [f" --{name} {','.join(map(str, part))}" for name, part in parts.items() if part is not None]
        return "".join([*told, " --study" if self.study else ""])


def expand(preset: Preset, choice: Choice, data: Mapping[str, str]) -> list[Cell]:
    """Return the cells of a preset, pretrainings first, each before the cells that need it.

    Args:
        preset: the grid.
        choice: the part of it that is wanted.
        data: layout (qmri, ixi, arc) -> what identifies the dataset.

    Raises:
        InputError: a choice that the preset does not have, or that leaves nothing.
    """
    _check(preset, choice)
    seeds = preset.seeds if choice.seeds is None else choice.seeds
    variants = list(preset.variants if choice.variants is None else choice.variants)
    if choice.study:
        variants += [name for name in preset.study if name not in variants]
    tasks = [PRETRAIN, *preset.tasks] if choice.tasks is None else list(choice.tasks)
    encoders: dict[tuple[str, int], Cell] = {}
    downstream: list[Cell] = []
    for seed in seeds:
        for variant in variants:
            source = preset.recipes[variant].encoder if variant in preset.recipes else variant
            made = None if source in ENCODERLESS else _pretraining(preset, source, seed, data[LAYOUTS[PRETRAIN]])
            cells = list(_task_cells(preset, choice, tasks, variant, seed, made, data))
            if made is not None and (cells or PRETRAIN in tasks):
                encoders[source, seed] = made
            downstream += cells
    if not encoders and not downstream:
        raise InputError("nothing is left of the grid: no task has such a modality or label fraction")
    order = {task: place for place, task in enumerate(preset.tasks)}
    downstream.sort(key=lambda cell: order[cell.task])
    return [*encoders.values(), *downstream]


def _pretraining(preset: Preset, variant: str, seed: int, data: str) -> Cell:
    part, extra = preset.pretrain, preset.study.get(variant, TaskGrid())
    mode = variant if variant in PRETRAINED else "seqinv"
    return Cell(
        task=PRETRAIN,
        variant=variant,
        modality="qmri",
        fraction=1.0,
        seed=seed,
        configs=(*part.configs, *extra.configs),
        settings={**part.settings, "mode": mode, **extra.settings, "variant": variant, "seed": seed},
        encoder="",
        data=data,
        seconds=part.seconds,
    )


def _task_cells(
    preset: Preset,
    choice: Choice,
    tasks: Sequence[str],
    variant: str,
    seed: int,
    encoder: Cell | None,
    data: Mapping[str, str],
) -> Iterator[Cell]:
    # a study variant is tested where the study says, unless the user says where
    limits = preset.study_tasks if variant in preset.study else preset.tasks
    recipe = preset.recipes.get(variant, Recipe("", variant))
    for task in (name for name in tasks if name in limits):
        part = preset.tasks[task]
        if part.variants and variant not in part.variants and choice.variants is None:
            continue
        modalities = [m for m in limits[task].modalities if choice.modalities is None or m in choice.modalities]
        fractions = limits[task].fractions if choice.fractions is None else choice.fractions
        for modality in modalities:
            for fraction in fractions:
                source: dict[str, Any] = {"encoder": ENCODERLESS[recipe.encoder]} if encoder is None else {}
                if task == _EMBEDDED_BY and fraction == max(fractions):
                    source["embed"] = True  # a frozen encoder gives the same features whatever the fraction
                own = {"modality": modality, "label_fraction": fraction, "variant": variant, "seed": seed}
                yield Cell(
                    task=task,
                    variant=variant,
                    modality=modality,
                    fraction=fraction,
                    seed=seed,
                    configs=(*part.configs, *recipe.configs),
                    settings={**part.settings, **source, **own, **recipe.settings},
                    encoder="" if encoder is None else encoder.name,
                    data=data[LAYOUTS[task]],
                    seconds=part.seconds,
                    tested_on=tuple(m for m in part.tested_on if m != modality),
                    maps=data[LAYOUTS[PRETRAIN]] if recipe.simulated else "",
                )


def _check(preset: Preset, choice: Choice) -> None:
    known_variants = [*PRETRAINED, *ENCODERLESS, *preset.study, *preset.recipes]
    known_modalities = list(dict.fromkeys(m for part in preset.tasks.values() for m in part.modalities))
    for what, chosen, known in (
        ("task", choice.tasks, [PRETRAIN, *preset.tasks]),
        ("variant", choice.variants, known_variants),
        ("modality", choice.modalities, known_modalities),
    ):
        for name in chosen or ():
            if name not in known:
                raise InputError(f"{what} {name!r} is not in the preset {preset.name}: choose {', '.join(known)}")
    for fraction in choice.fractions or ():
        if not 0 < fraction <= 1:
            raise InputError(f"label_fraction {fraction} is no share: choose above 0 and up to 1, such as 0.1")
    for seed in choice.seeds or ():
        if seed < 0:
            raise InputError(f"seeds {seed}: give whole numbers, 0 or more, joined by commas")
