"""The paper's comparison: run the grid, report on it, compare its runs in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.switches import is_given

__all__ = ["compare", "report", "run"]

Words = str | int | float | tuple[Any, ...] | list[Any]


def run(
    preset: str = "mini",
    out: str | None = None,
    task: Words | None = None,
    variant: Words | None = None,
    modality: Words | None = None,
    label_fraction: Words | None = None,
    seeds: Words | None = None,
    study: bool = False,
    qmri: str | None = None,
    ixi: str | None = None,
    arc: str | None = None,
    jobs: int = 1,
    minutes: float | None = None,
    dry_run: bool = False,
    tracking_uri: str | None = None,
) -> None:
    """Train and evaluate a grid of variants, tasks, modalities and label fractions; typed again, it continues.

    Args:
        preset: mini (embedded cohorts, two cores, some two hours), gpu, paper (real data), or a JSON file.
        out: folder for all of it; default: experiments/<preset>.
        task: some of pretrain, ixi_seg, arc_lesion, ixi_denoise, joined by commas.
        variant: some of base, seqaug, seqinv, random (frozen, untrained), scratch (all trained).
        modality: some of T1w, T2w, PDw, FLAIR.
        label_fraction: shares of the training subjects, such as 0.01,0.1,1.0.
        seeds: such as 0,1,2.
        study: add the pretraining variants that the paper leaves open, on a few tasks.
        qmri: folder of your own quantitative maps instead of the embedded cohort.
        ixi: folder of a prepared IXI.
        arc: folder of a prepared ARC.
        jobs: runs side by side, sharing the cores.
        minutes: stop after so many; what was begun continues when the command is typed again.
        dry_run: only print the plain commands.
        tracking_uri: MLflow store; default: mlruns.db in ``out``.
    """
    from scripts.experiment.execute import commands
    from scripts.experiment.grid import Choice
    from scripts.experiment.presets import load_preset
    from scripts.experiment.run import plan, run_grid

    chosen = load_preset(preset)
    choice = Choice(
        tasks=_words(task),
        variants=_words(variant),
        modalities=_words(modality),
        fractions=_numbers(label_fraction, "label_fraction", float),
        seeds=_numbers(seeds, "seeds", int),
        study=study,
    )
    folder = Path(out) if out else Path("experiments") / chosen.name
    cells = plan(chosen, choice, folder, uri=tracking_uri, data={"qmri": qmri, "ixi": ixi, "arc": arc})
    if dry_run:
        print("\n".join(line for job in cells for line in commands(job)))
        return
    run_grid(cells, chosen, processes=jobs, minutes=minutes).tell(cells)


def report(
    out: str = "experiments/mini", grid: str | None = None, tracking_uri: str | None = None, page: str | None = None
) -> None:
    """Write tables, figures and report.html of a grid into ``out``/report, from MLflow and the result tables alone.

    Args:
        out: folder of the grid, or any folder to write to with ``tracking_uri``.
        grid: its name; default: the only one that the store holds.
        tracking_uri: MLflow store; default: mlruns.db in ``out``.
        page: also write the results as this Markdown file, its pictures into ``images`` beside it.
    """
    from scripts.experiment.report import write_report

    print(write_report(out, grid=grid, uri=tracking_uri, page=page))


def compare(
    out: str = "experiments/mini",
    grid: str | None = None,
    tracking_uri: str | None = None,
    port: int | None = None,
    open: bool = False,  # noqa: A002
) -> None:
    """Serve MLflow on this machine and print the address where the grid's runs stand side by side; Ctrl-C ends it.

    Args:
        out: folder of the grid.
        grid: its name; default: the only one that the store holds.
        tracking_uri: MLflow store; default: mlruns.db in ``out``.
        port: of the server; default: a free one.
        open: open the address in the browser.
    """
    from scripts.experiment.compare_runs import serve
    from scripts.experiment.report import find_grid

    uri, name = find_grid(out, grid, tracking_uri)
    serve(uri, name, port=port, open_browser=open)


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
        raise InputError(f"{name} {','.join(words or [])} are no numbers: give such as 0,1 joined by commas") from None
