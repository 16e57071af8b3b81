"""The paper's comparison: run the grid, report on it, compare its runs in MLflow."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from scripts.errors import InputError
from scripts.switches import is_given, is_on

__all__ = ["compare", "report", "run"]

Words = str | int | float | tuple[Any, ...] | list[Any]


def run(
    preset: str = "mini",
    out: str | None = None,
    grid: str | None = None,
    task: Words | None = None,
    variant: Words | None = None,
    modality: Words | None = None,
    label_fraction: Words | None = None,
    seeds: Words | None = None,
    study: bool = False,
    qmri: str | None = None,
    ixi: str | None = None,
    arc: str | None = None,
    label_maps: str | None = None,
    lesions: str | None = None,
    jobs: int | None = None,
    minutes: float | None = None,
    dry_run: bool = False,
    tracking_uri: str | None = None,
    launcher: str | None = None,
    gpus: int | None = None,
    cpus: int | None = None,
    memory_gb: float | None = None,
    partition: str | None = None,
    account: str | None = None,
    constraint: str | None = None,
    setup: str | tuple[str, ...] | None = None,
    wait: bool = False,
) -> None:
    """Train and evaluate a grid of variants, tasks, modalities and label fractions; typed again, it continues.

    Args:
        preset: quick (a look in 20 minutes on two cores), mini (a night on two cores), gpu, paper (real data), or a
            JSON file.
        out: folder for all of it; default: experiments/<grid>.
        grid: its name, by which reports and pages know it; default: the preset's.
        task: some of pretrain, ixi_seg, arc_lesion, ixi_denoise, joined by commas.
        variant: some of base, seqaug, seqinv, random (frozen, untrained), scratch (all trained), and recipes.
        modality: some of T1w, T2w, PDw, FLAIR.
        label_fraction: shares of the training subjects, such as 0.01,0.1,1.0.
        seeds: such as 0,1,2.
        study: add the pretraining variants that the paper leaves open, on a few tasks.
        qmri: folder of your own quantitative maps instead of the embedded cohort.
        ixi: folder of a prepared IXI.
        arc: folder of a prepared ARC.
        label_maps: folder of label maps of people's whole heads (FreeSurfer's ids), of which cohorts are made.
        lesions: folder of masks of stroke lesions in MNI space, laid into the heads from label_maps.
        jobs: runs side by side, sharing the cores; default: 1, or what the launcher takes.
        minutes: stop after so many; what was begun continues when the command is typed again. Of each Slurm job.
        dry_run: only print the plain commands.
        tracking_uri: MLflow store; default: mlruns.db in ``out``.
        launcher: local or slurm, through submitit (pip install -e ".[cluster]"); see docs/cluster.md.
        gpus: of each run; several train it by torchrun.
        cpus: cores of each job.
        memory_gb: memory of each job.
        partition: of Slurm.
        account: of Slurm.
        constraint: features that a node must have.
        setup: shell lines before each Slurm job.
        wait: watch Slurm's jobs to their end.
    """
    from scripts.experiment.grid.cells import Choice
    from scripts.experiment.grid.presets import load_preset, with_label_maps
    from scripts.experiment.launch.execute import commands
    from scripts.experiment.launch.launchers import LaunchOptions
    from scripts.experiment.launch.run_grid import plan, run_grid, submit_grid

    chosen = with_label_maps(load_preset(preset), label_maps, lesions)
    choice = Choice(
        tasks=_words(task),
        variants=_words(variant),
        modalities=_words(modality),
        fractions=_numbers(label_fraction, "label_fraction", float),
        seeds=_numbers(seeds, "seeds", int),
        study=is_on(study, "study"),
    )
    folder = Path(out) if out else Path("experiments") / (grid or chosen.name)
    given: dict[str, Any] = {
        "jobs": jobs,
        "minutes": minutes,
        "gpus": gpus,
        "cpus": cpus,
        "memory_gb": memory_gb,
        "wait": wait,
    }
    given |= {"partition": partition, "account": account, "constraint": constraint, "setup": setup}
    # without a launcher the minutes are those of all runs together, and may be broken
    options = LaunchOptions.chosen(given if launcher else {**given, "minutes": None})
    options.refuse_unread(launcher)
    if minutes is not None and not (isinstance(minutes, (int, float)) and 0 < minutes < math.inf):
        raise InputError(f"minutes is {minutes!r}: give a number above 0, or leave it out")
    data = {"qmri": qmri, "ixi": ixi, "arc": arc}
    cells = plan(chosen, choice, folder, grid=grid, uri=tracking_uri, data=data, gpus=gpus or 1)
    if is_on(dry_run, "dry_run"):
        print("\n".join(line for job in cells for line in commands(job)))
        return
    if launcher:
        submit_grid(cells, chosen, launcher, options).tell(cells)
    else:
        run_grid(cells, chosen, processes=jobs or 1, minutes=minutes).tell(cells)


def report(
    out: str = "experiments/mini",
    grid: str | None = None,
    tracking_uri: str | None = None,
    page: str | None = None,
    bundles: str | None = None,
) -> None:
    """Write tables, figures and report.html of a grid into ``out``/report, from MLflow and the result tables alone.

    Args:
        out: folder of the grid, or any folder to write to with ``tracking_uri``.
        grid: its name; default: the only one that the store holds.
        tracking_uri: MLflow store; default: mlruns.db in ``out``.
        page: also write the results as this Markdown file, its pictures into ``images`` beside it.
        bundles: also write each bundle's results into its page below this folder, such as bundles.
    """
    from scripts.experiment.report import write_report

    print(write_report(out, grid=grid, uri=tracking_uri, page=page, bundles=bundles))


def compare(
    out: str = "experiments/mini",
    grid: str | None = None,
    tracking_uri: str | None = None,
    task: str | None = None,
    modality: str | None = None,
    port: int | None = None,
    open: bool = False,  # noqa: A002
    picture: str | None = None,
) -> None:
    """Serve MLflow on this machine and print the address where the grid's runs stand side by side; Ctrl-C ends it.

    Args:
        out: folder of the grid.
        grid: its name; default: the only one that the store holds.
        tracking_uri: MLflow store; default: mlruns.db in ``out``.
        task: only its runs.
        modality: only its runs.
        port: of the server; default: a free one.
        open: open the address in the browser.
        picture: PNG of MLflow's charts of the runs to write, by Chromium; nothing is served then.
    """
    from scripts.experiment.pages.compare_runs import picture_comparison, serve
    from scripts.experiment.report import find_grid

    uri, name = find_grid(out, grid, tracking_uri)
    tags = {tag: value for tag, value in {"task": task, "modality": modality}.items() if value is not None}
    if picture:
        print(picture_comparison(uri, name, picture, tags=tags, port=port))
    else:
        serve(uri, name, tags=tags, port=port, open_browser=open)


def _words(value: Words | None) -> list[str] | None:
    if value is None or not is_given(value):
        return None
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    return [str(part).strip() for part in parts]


def _numbers(value: Words | None, name: str, kind: type) -> list[Any] | None:
    from scripts.errors import InputError

    words = _words(value)
    try:
        return None if words is None else [kind(word) for word in words]
    except ValueError:
        such = "0,1" if kind is int else "0.1,1.0"
        raise InputError(f"{name} {','.join(words or [])} are no numbers: give such as {such}") from None
