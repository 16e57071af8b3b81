"""The demo: embedded cohorts, a short pretraining, three tasks on its frozen encoder, all measured."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.bundles import BUNDLES, bundle_command, run_bundle
from scripts.errors import InputError
from scripts.io.files import told_if_refused
from scripts.literals import literals
from scripts.tasks import PRETRAIN_BUNDLE, TASKS
from scripts.weights.provenance import provenance_of
from scripts.weights.shipped import shipped_file

__all__ = ["run_demo"]

_SPACING = 2.0  # of the heads [mm]


def run_demo(
    out: str | Path,
    *,
    seed: int = 0,
    subjects: int | None = None,
    max_epochs: int | None = None,
    tasks: Sequence[str] = tuple(TASKS),
    task_epochs: int | None = None,
    heads: int = 20,
) -> None:
    """Run the bundles with their demo overlays, then with their evaluation overlays, all results in one folder.

    Args:
        out: the folder; a demo that was interrupted there is continued.
        seed: of cohorts, weights, views and patches.
        subjects: size of the pretraining's cohort, None takes that of its demo.json.
        max_epochs: length of the pretraining, None takes that of its demo.json.
        tasks: of `scripts.tasks.TASKS`.
        task_epochs: length of each task's training, None takes that of its demo.json.
        heads: simulated heads of the training site; ARC's cohort has half as many again.

    Raises:
        InputError: a task that there is not.
    """
    began = time.monotonic()
    unknown = [task for task in tasks if task not in TASKS]
    if unknown:
        raise InputError(f"task {unknown[0]!r} is unknown: choose {', '.join(TASKS)}, or none")
    out = Path(out)
    with told_if_refused(out):
        out.mkdir(parents=True, exist_ok=True)
    places = {"tracking_uri": f"sqlite:///{(out / 'mlruns.db').resolve()}", "seed": seed}
    pretrain: dict[str, Any] = {**_folders(out), **places}
    if subjects is not None:
        pretrain["embedded::subjects"] = subjects
    if max_epochs is not None:
        pretrain["max_epochs"] = max_epochs
    steps = ["a short SeqInv pretraining on simulated maps, its invariance measured", *tasks]
    print(f"Demo in {out}: " + "; ".join(f"{number}. {step}" for number, step in enumerate(steps, 1)) + ".")
    print("It shows that the pieces work; a few minutes at 2 mm and small width are no match for the paper's recipe.")
    _run_both(PRETRAIN_BUNDLE, pretrain)
    for task in tasks:
        settings: dict[str, Any] = {**_folders(out / task), **places, "encoder_bundle": str(out)}
        settings["dataset_dir"] = str(_heads(out / "data", task, heads, seed))
        if task_epochs is not None:
            settings["max_epochs"] = task_epochs
        _run_both(task, settings)
        _measure_shipped(out, task, settings)
    tell_results(out, tasks, (time.monotonic() - began) / 60)


def _folders(out: Path) -> dict[str, str]:
    return {"output_dir": str(out / "eval"), "ckpt_dir": str(out / "models"), "work_dir": str(out / "data")}


def _heads(folder: Path, task: str, heads: int, seed: int) -> Path:
    """Make the cohort of a task, or find it made."""
    if TASKS[task].layout == "arc":
        from scripts.cohort.arc_cohort import make_arc_cohort

        return make_arc_cohort(folder / "arc", heads * 3 // 2, seed=seed, spacing=_SPACING)
    from scripts.cohort.ixi_cohort import make_ixi_cohort

    outside = max(1, heads // 6)
    return make_ixi_cohort(folder / "ixi", guys=heads, hh=outside, iop=outside, seed=seed, spacing=_SPACING)


def _run_both(bundle: str, settings: Mapping[str, Any]) -> None:
    """Train and evaluate, saying what one would type for it."""
    for overlays in (["train.json", "demo.json"], ["train.json", "demo.json", "evaluate.json"]):
        print(f"\n{bundle_command(overlays, literals(settings), bundle)}\n")
        run_bundle(overlays, settings, bundle)


def _measure_shipped(out: Path, task: str, settings: Mapping[str, Any]) -> None:
    """Evaluate the network that comes with the checkout on the same subjects, if one does."""
    weights = shipped_file(BUNDLES / task)
    if not weights.is_file():
        return
    same = {name: settings[name] for name in ("dataset_dir", "work_dir", "tracking_uri", "seed")}
    known = {**provenance_of(weights, task).inference, "weights_path": str(weights), "encoder": "none", "dropout": 0.0}
    overlays = ["train.json", "evaluate.json"]
    chosen = {**same, **known, **_folders(out / "shipped" / task), "work_dir": same["work_dir"], "num_workers": 0}
    print(f"\n{bundle_command(overlays, literals(chosen), task)}\n")
    run_bundle(overlays, chosen, task)


def tell_results(out: Path, tasks: Sequence[str], minutes: float) -> None:
    """Print what a demo measured, where its results lie and what comes next.

    Args:
        out: its folder.
        tasks: that it trained.
        minutes: that it took.
    """
    print(f"\nThe demo took {minutes:.1f} min. Means over held-out simulated subjects, with standard errors:")
    for task in tasks:
        metric = TASKS[task].alone.name
        shipped = {row.site: row for row in _scored(out / "shipped" / task, task)}
        for row in _scored(out / task, task):
            beside = f"; with the network of the clone {_mean(shipped[row.site])}" if row.site in shipped else ""
            print(f"  {task:12s} {row.site:5s} {metric:9s} {_mean(row)} (n = {row.n}){beside}")
    if any((out / "shipped").glob("*/eval/summary.csv")):
        print("The clone's networks saw heads of other people in any contrast, and none of this cohort.")
    print("Look at:")
    print(f"  encoder   {out / 'models' / 'model.pt'}")
    print(f"  measures  {out / 'eval' / 'invariance.csv'}, {out}/<task>/eval/metrics.csv and summary.csv")
    pictures = sorted((out / "eval").glob("views_epoch*.png"))
    print(f"  views     {pictures[-1] if pictures else out / 'eval'}")
    print(f"  MLflow    mlflow ui --backend-store-uri sqlite:///{(out / 'mlruns.db').resolve()}")
    print("Next, the paper's own recipe (a GPU, or much patience):")
    print("  python -m monai.bundle run --config_file bundles/pretrain_seqinv/configs/train.json")
    print("  python -m monai.bundle run --config_file bundles/ixi_seg/configs/train.json")


def _scored(folder: Path, task: str) -> list[Any]:
    """Return the rows of an evaluation, one a site, that a task is judged by; none where there was no evaluation."""
    import pandas as pd

    path = folder / "eval" / "summary.csv"
    if not path.is_file():
        return []
    table = pd.read_csv(path)
    wanted = (table["metric"] == TASKS[task].alone.name) & (table["class"] == TASKS[task].scored)
    return list(table[wanted].itertuples())


def _mean(row: Any) -> str:
    return f"{row.mean:7.3f}" + (f" +- {row.standard_error:.3f}" if row.n > 1 else "")
