"""Speed and memory of the views, measured side by side with stock MONAI transforms."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.benchmark.timing import finish, in_turn
from scripts.data.qmri import find_subjects
from scripts.data.regions import RegionDataset
from scripts.data.store import prepare_store
from scripts.views import ViewGenerator

__all__ = ["benchmark", "peak_memory"]


def benchmark(repeats: int, patch_size: int, batch_size: int, memory: bool, device: str) -> float:
    """Print a table of what each costs, and ``ratio N.N`` last; return the ratio.

    Args:
        repeats: measurements of each, in turn.
        patch_size: side of a view [voxels].
        batch_size: anatomies of a batch of ours.
        memory: also compare peak memory with 4 and 64 subjects.
        device: auto, cpu or cuda.
    """
    from scripts.benchmark.stock import StockViews
    from scripts.cohort.qmri_cohort import make_qmri_cohort

    where = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu"))
    print(f"Views of {patch_size}^3 voxels from 1 mm maps, {repeats} measurements of each in turn, medians")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, ours on {where}")
    with tempfile.TemporaryDirectory(prefix="views-benchmark-") as folder:
        subjects = find_subjects(make_qmri_cohort(Path(folder) / "cohort", subjects=batch_size))
        subjects = [{**subject, "r2": None} for subject in subjects]  # four maps, for both
        stored = prepare_store(subjects, Path(folder) / "cache")
        views = ViewGenerator("seqinv", patch_size=patch_size)
        stock = [StockViews(patch_size, views.ranges, region_first) for region_first in (False, True)]
        dataset = RegionDataset(stored, views.region_size, batch_size, seed=0)

        def ours(step: int) -> None:
            views(_batch(dataset, step, batch_size).to(where), step)
            finish(where)

        def theirs(number: int, step: int) -> None:
            stock[number](subjects[step % len(subjects)], views.draw(1, step).protocols)

        seconds = _interleaved([ours, partial(theirs, 0), partial(theirs, 1)], repeats)
        pair_ours, pair_stock, pair_region = seconds[0] / batch_size, seconds[1], seconds[2]
        _print_stages(_stages(views, dataset, batch_size, where, repeats), batch_size)
        _print_pairs("stock MONAI, warping whole volumes", pair_stock)
        _print_pairs("stock MONAI, cropping a region first", pair_region)
        _print_pairs("ours", pair_ours)
        if where.type == "cuda":
            _print_training(views, dataset, batch_size, where, repeats)
        if memory:
            _print_memory(stored, Path(folder), patch_size)
    ratio = pair_stock / pair_ours
    print(f"against stock MONAI that crops a region first: {pair_region / pair_ours:.1f}")
    print(f"ratio {ratio:.1f}")
    return ratio


def peak_memory(stores: Sequence[str], patch_size: int, steps: int) -> float:
    """Return the peak resident memory of this process [MiB] after ``steps`` batches of 4 subjects."""
    views = ViewGenerator("seqinv", patch_size=patch_size)
    dataset = RegionDataset([{"subject": s, "store": s} for s in stores], views.region_size, 4, seed=0)
    for step in range(steps):
        views(_batch(dataset, step, 4), step)
    # getrusage would carry over the peak of the process that started this one
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _batch(dataset: RegionDataset, step: int, batch_size: int) -> Tensor:
    return torch.stack([dataset[step * batch_size + slot]["maps"] for slot in range(batch_size)])


def _interleaved(tasks: Sequence[Callable[[int], Any]], repeats: int) -> list[float]:
    """Median seconds of each task, which is told the round; one unmeasured round, then the tasks in turn."""
    return in_turn([partial(next, map(task, itertools.count())) for task in tasks], repeats, warm=1)


def _stages(
    views: ViewGenerator, dataset: RegionDataset, batch_size: int, device: torch.device, repeats: int
) -> dict[str, float]:
    """Median seconds of a batch's read, simulation, simulation + warp, and whole."""
    state: dict[str, Any] = {}

    def read(step: int) -> None:
        state["maps"] = _batch(dataset, step, batch_size).to(device)
        state["params"] = views.draw(batch_size, step).to(device)

    def simulated(_: int) -> None:
        views.signal(state["maps"], state["params"], range(len(state["params"].protocols)))
        finish(device)

    def warped(_: int) -> None:
        views.clean(state["maps"], state["params"])
        finish(device)

    def whole(_: int) -> None:
        views.apply(state["maps"], state["params"])
        finish(device)

    names = (
        "read regions, draw parameters",
        "simulate",
        "simulate, warp",
        "simulate, warp, corrupt, normalise",
    )
    return dict(zip(names, _interleaved([read, simulated, warped, whole], repeats), strict=True))


def _print_pairs(what: str, seconds: float) -> None:
    print(f"{what:46s} {seconds * 1e3:9.1f} ms a pair {1 / seconds:8.2f} pairs/s")


def _print_stages(stages: dict[str, float], batch_size: int) -> None:
    for name, seconds in stages.items():
        print(f"{'  of ours: ' + name:46s} {seconds / batch_size * 1e3:9.1f} ms a pair")


def _print_training(
    views: ViewGenerator, dataset: RegionDataset, batch_size: int, device: torch.device, repeats: int
) -> None:
    """Compare training steps on live views with steps on one fixed batch."""
    from monai.data import DataLoader

    from scripts.data.regions import StepSampler
    from scripts.losses import NTXentLoss, PretrainLoss
    from scripts.networks import Encoder, PretrainNet, Projector, Reconstructor

    encoder = Encoder()
    network = PretrainNet(encoder, Projector(encoder.channels), Reconstructor(encoder.channels[-1])).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    loss = PretrainLoss(NTXentLoss())
    batches = iter(DataLoader(dataset, batch_sampler=StepSampler(batch_size), num_workers=8, pin_memory=True))
    fixed = views(_batch(dataset, 0, batch_size).to(device), 0)

    def train(made: dict[str, Any]) -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            total = loss(network(made["image"]), made["target"])["loss"]
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()

    def block(live: bool) -> None:
        for _ in range(5):
            if live:
                batch = next(batches)
                train(views(batch["maps"].to(device, non_blocking=True), int(batch["step"][0])))
            else:
                train(fixed)
        finish(device)

    with_views, without = _interleaved([lambda _: block(True), lambda _: block(False)], repeats)
    print(
        f"training step: live views {with_views * 200:.1f} ms, one fixed batch {without * 200:.1f} ms, "
        f"slower by {100 * (with_views / without - 1):.1f} %"
    )


def _print_memory(stored: list[dict[str, Any]], folder: Path, patch_size: int) -> None:
    """Compare peak memory of two fresh processes, with 4 and with 64 subjects."""
    stores = []
    for copy in range(64):
        source = Path(stored[copy % len(stored)]["store"])
        target = folder / "many" / f"sub-{copy:03d}{source.suffix}"
        target.parent.mkdir(exist_ok=True)
        for part in source.parent.glob(f"{source.stem}.*"):
            shutil.copyfile(part, target.parent / part.name.replace(source.stem, target.stem))
        stores.append(str(target))
    peaks = []
    for count in (4, 64):
        code = (
            "import json, sys; from scripts.benchmark.views import peak_memory; "
            "print(peak_memory(json.loads(sys.argv[1]), int(sys.argv[2]), 12))"
        )
        command = [sys.executable, "-c", code, json.dumps(stores[:count]), str(patch_size)]
        peaks.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]))
    print(
        f"peak memory: 4 subjects {peaks[0]:.0f} MiB, 64 subjects {peaks[1]:.0f} MiB, "
        f"difference {100 * (peaks[1] / peaks[0] - 1):+.1f} %"
    )
