"""What a task is: its data, labels, measures, colours and words, read by all that tell tasks apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = [
    "CLASS_COLOURS",
    "LAYOUTS",
    "MAPS_OVERLAY",
    "PRETRAIN",
    "PRETRAIN_BUNDLE",
    "SYNTHETIC",
    "TASKS",
    "TRAIN_MAPS",
    "DatasetKind",
    "Label",
    "Metric",
    "Task",
    "bundle_of",
    "bundles_on",
    "task_title",
]

DatasetKind = Literal["qmri", "ixi", "arc"]
"""How the files of a dataset are laid out."""

PRETRAIN = "pretrain"
"""The pretraining among the tasks of a grid; it is none of `TASKS`."""

PRETRAIN_BUNDLE = "pretrain_seqinv"
"""Its bundle."""

_MAP_CONFIGS = ",".join(f"'bundles/{PRETRAIN_BUNDLE}/configs/{name}.json'" for name in ("train", "maps"))
TRAIN_MAPS = f'python -m monai.bundle run --config_file "[{_MAP_CONFIGS}]"'
"""The command that makes weights which find quantitative maps."""

MAPS_OVERLAY = "inference_maps.json"
"""On the inference of the pretraining's bundle: gives maps in place of an embedding."""

SYNTHETIC = "synthetic"
"""The modality of a network that was trained on simulated contrasts: it takes any."""

CLASS_COLOURS: Mapping[str, str] = MappingProxyType(
    {"#ff5050": "red", "#50d0ff": "blue", "#ffd040": "yellow", "#70e070": "green"}
)
"""Colours of the label values 1, 2, ... on images -> their words."""


@dataclass(frozen=True)
class Metric:
    """A measure as it is printed.

    Attributes:
        name: in the scores.
        unit: that is read.
        scale: factor from the score to the unit.
        better: higher or lower.
        digits: behind the point.
        points: what a difference is counted in, where that is not the unit.
    """

    name: str
    unit: str
    scale: float = 1.0
    better: Literal["higher", "lower"] = "higher"
    digits: int = 1
    points: str = ""

    @property
    def label(self) -> str:
        """For people."""
        return self.name.replace("_", " ")

    @property
    def axis(self) -> str:
        """Label of an axis."""
        return f"{self.label} [{self.unit}]"


@dataclass(frozen=True)
class Label:
    """A class of voxels: its value in the label maps, its name and its colour."""

    value: int
    name: str
    colour: str


@dataclass(frozen=True)
class Task:
    """A downstream task.

    Attributes:
        name: of the task and of its bundle.
        layout: of its dataset.
        modalities: that it can be trained on, in the order of the tables.
        labels: that it predicts; none where it predicts an image.
        metrics: of its table in the paper, the headline first.
        scored: class of the headline in the scores' summary, ``all`` being the mean over the labels.
        extra: what the paper does not print and what a network by itself is judged by; None takes the headline.
        extra_words: name and words of its table.
        table: number and words of its table in the paper.
        title: for people.
        topic: heading of its figures.
        short: in a word.
        cases: how to read the pictures of its cases; ``{classes}`` is where the colours of the labels go.
    """

    name: str
    layout: DatasetKind
    modalities: tuple[str, ...]
    labels: tuple[Label, ...]
    metrics: tuple[Metric, ...]
    scored: str
    table: tuple[int, str]
    title: str
    topic: str
    short: str
    cases: str
    extra: Metric | None = None
    extra_words: tuple[str, str] = ("", "")

    @property
    def headline(self) -> Metric:
        """What trainings are compared by."""
        return self.metrics[0]

    @property
    def alone(self) -> Metric:
        """What a network is judged by that stands beside no other."""
        return self.extra or self.headline

    @property
    def classes(self) -> dict[int, str]:
        """Value -> name of each label."""
        return {label.value: label.name for label in self.labels}


def _labels(*names: str) -> tuple[Label, ...]:
    colours = zip(names, CLASS_COLOURS, strict=False)
    return tuple(Label(value, name, colour) for value, (name, colour) in enumerate(colours, 1))


_DSC = Metric("DSC", "%", scale=100.0, points="DSC points")
_TASKS = (
    Task(
        name="ixi_seg",
        layout="ixi",
        modalities=("T1w", "T2w", "PDw", "FLAIR"),
        labels=_labels("grey matter", "white matter", "CSF"),
        metrics=(_DSC,),
        scored="all",
        table=(1, "tissue segmentation"),
        title="Brain tissue (IXI)",
        topic="Tissue segmentation",
        short="tissue",
        cases="Colours: {classes}. Of each plane the slice with most brain",
    ),
    Task(
        name="arc_lesion",
        layout="arc",
        modalities=("T1w", "T2w", "FLAIR"),
        labels=_labels("lesion"),
        metrics=(_DSC, Metric("HD95", "mm", better="lower")),
        scored="lesion",
        table=(2, "stroke lesion segmentation"),
        title="Stroke lesion (ARC)",
        topic="Stroke lesions",
        short="lesions",
        cases="Outlines: truth blue, prediction orange. Of each plane the slice with most lesion",
    ),
    Task(
        name="ixi_denoise",
        layout="ixi",
        modalities=("T1w", "T2w", "PDw", "FLAIR"),
        labels=(),
        metrics=(Metric("PSNR", "dB"),),
        scored="image",
        extra=Metric("PSNR_gain", "dB", digits=2),
        extra_words=("gain", "gain over the noisy image"),
        table=(3, "denoising"),
        title="Denoising (IXI)",
        topic="Denoising",
        short="denoising",
        cases="Right: denoised minus clean, blue below and red above zero. The axial slice with most of the head",
    ),
)

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _TASKS})
"""Name -> the downstream tasks in the order of the paper."""

LAYOUTS: Mapping[str, DatasetKind] = MappingProxyType({PRETRAIN: "qmri", **{task.name: task.layout for task in _TASKS}})
"""Task of a grid -> layout of its dataset."""


def bundle_of(task: str) -> str:
    """Return the bundle that a task of a grid runs."""
    return PRETRAIN_BUNDLE if task == PRETRAIN else task


def bundles_on(layout: DatasetKind) -> list[str]:
    """Return the bundles that train on a dataset."""
    return [bundle_of(task) for task, own in LAYOUTS.items() if own == layout]


def task_title(name: str) -> str:
    """Return a task of a grid as it is written for people."""
    return "Pretraining" if name == PRETRAIN else TASKS[name].title if name in TASKS else name
