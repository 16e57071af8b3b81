"""What one GPU makes of the full-size recipe: rate, step, views, memory, loss, kill and resume, inference."""

from __future__ import annotations

import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch

from scripts.benchmark.kill_resume import kill_and_resume
from scripts.benchmark.recipe import Recipe, Step, read_recipe
from scripts.benchmark.timing import finish, free, median_seconds, peak_memory_on
from scripts.errors import InputError, root_cause
from scripts.io.write import write_json
from scripts.parallel import available_cores

__all__ = ["VARIANTS", "benchmark"]

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"amp": False, "channels_last": False, "compile": False, "optimizer::fused": False},
    "bfloat16": {"amp": True, "channels_last": False, "compile": False, "optimizer::fused": True},
    "bfloat16, channels last": {"amp": True, "channels_last": True, "compile": False, "optimizer::fused": True},
    "bfloat16, channels last, compiled": {
        "amp": True,
        "channels_last": True,
        "compile": True,
        "optimizer::fused": True,
    },
}
"""Settings of train.json that are compared, slowest first."""


class _Clock:
    """The time that is left, and what was measured so far, written down after each part."""

    def __init__(self, minutes: float, out: Path) -> None:
        self.end = time.monotonic() + 60 * minutes
        self.out = out
        self.results: dict[str, Any] = {}

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def part(self, name: str, needs: float, measure: Callable[[], Any]) -> None:
        """Measure a part if the time is enough for it [s]; an error of it is told and costs this part only."""
        if self.left < needs:
            found: Any = {"left out": f"{self.left:.0f} s left, needs about {needs:.0f} s"}
        else:
            began = time.monotonic()
            try:
                found = measure()
            except Exception as error:
                found = {"failed": f"{type(root_cause(error)).__name__}: {root_cause(error)}"[:500]}
            found = {**found, "took": round(time.monotonic() - began, 1)}
        self.results[name] = found
        write_json(self.out, self.results)
        print(f"{name}: {json.dumps(found)}", flush=True)


def benchmark(
    minutes: float,
    out: str | Path,
    *,
    device: str = "cuda",
    patch_size: int = 96,
    batch_size: int = 8,
    features: tuple[int, ...] = (64, 128, 256, 512, 768),
    spacing: float = 1.0,
    steps: int = 300,
) -> dict[str, Any]:
    """Measure within ``minutes``, write the results to a JSON file after each part, and return them.

    Args:
        minutes: time for all; a part that does not fit any more is left out and named.
        out: JSON file to write.
        device: where; cpu tries the command itself.
        patch_size: side of the views [voxels].
        batch_size: anatomies a step, two views each.
        features: widths of the encoder.
        spacing: voxel size of the simulated maps [mm].
        steps: training steps whose loss is followed, fewer where the time ends.

    Raises:
        InputError: without such a device.
    """
    where = torch.device(device)
    if where.type == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device is found here: run this where there is a GPU, or type --device cpu to try it")
    torch.backends.cudnn.benchmark = True
    clock = _Clock(minutes, Path(out))
    size = {"patch_size": patch_size, "batch_size": batch_size, "features": list(features)}
    with tempfile.TemporaryDirectory(prefix="gpu-benchmark-") as folder:
        subjects = math.ceil(batch_size / 0.7) + 1  # of which 70 % are trained on
        clock.part("cohort", 0, lambda: _cohort(Path(folder), subjects, spacing))
        size["dataset_dir"] = str(Path(folder) / "cohort")
        recipes = {name: read_recipe(Path(folder), where, {**size, **more}) for name, more in VARIANTS.items()}
        clock.part("card", 0, lambda: _card(where))
        clock.part("data", 0, lambda: {"subjects": len(recipes["plain"].get("data")["training"])})
        clock.part("step", 60, lambda: _steps(recipes, where, clock))
        best = _best(clock.results["step"])
        clock.part("live views", 20, lambda: _live(recipes[best], where, best))
        clock.part("loss", 10, lambda: _losses(recipes[best], steps, clock))
        recipes.clear()
        free(where)
        clock.part("inference", 30, lambda: _inference(where, (*features, features[0] // 2), patch_size, spacing))
        clock.part("kill and resume", 60, lambda: kill_and_resume(Path(folder), where, batch_size))
    return clock.results


def _card(where: torch.device) -> dict[str, Any]:
    """Name and memory of the card, and the rate at which it multiplies matrices in bfloat16."""
    side = 8192 if where.type == "cuda" else 128
    a, b = (torch.randn(side, side, device=where, dtype=torch.bfloat16) for _ in range(2))
    seconds = median_seconds(lambda: a @ b, where, 20, warm=5)
    found = {"device": str(where), "torch": torch.__version__, "bf16_tflops": round(2 * side**3 / seconds / 1e12, 3)}
    if where.type == "cuda":
        found |= {
            "name": torch.cuda.get_device_name(where),
            "memory_gib": round(torch.cuda.get_device_properties(where).total_memory / 2**30, 1),
        }
    return found


def _cohort(folder: Path, subjects: int, spacing: float) -> dict[str, Any]:
    from scripts.cohort.qmri_cohort import make_qmri_cohort

    make_qmri_cohort(folder / "cohort", subjects, 0, spacing, jobs=available_cores(), progress=False)
    return {"subjects": subjects, "spacing_mm": spacing}


def _steps(recipes: dict[str, Recipe], where: torch.device, clock: _Clock) -> dict[str, Any]:
    """Time a step of each variant on one fixed batch, in turn."""
    image, target = next(recipes["plain"].views())
    flops = recipes["plain"].flops()
    made: dict[str, Step] = {}
    found: dict[str, Any] = {"tflop": round(flops / 1e12, 3)}
    for name, recipe in recipes.items():
        with peak_memory_on(where) as memory:
            try:
                step = recipe.step()
                began = time.monotonic()
                for _ in range(3):
                    step(image, target)
                finish(where)
            except torch.cuda.OutOfMemoryError as error:
                found[name] = {"failed": str(error).splitlines()[0]}
                continue
        made[name] = step
        found[name] = {"first_steps_s": round(time.monotonic() - began, 1), **memory}
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(5 if where.type == "cuda" else 1):
        for name, step in made.items():
            times[name].append(median_seconds(partial(step, image, target), where, 2, warm=1))
    rate = clock.results["card"]["bf16_tflops"]
    for name, measured in times.items():
        seconds = statistics.median(measured)
        reached = flops / seconds / 1e12
        found[name] |= {
            "step_ms": round(1e3 * seconds, 2),
            "tflops": round(reached, 2),
            "share_of_rate": round(reached / rate, 3),
        }
    return found


def _best(steps: dict[str, Any]) -> str:
    """Return the quickest variant, the last where none was measured."""
    measured = {name: part["step_ms"] for name, part in steps.items() if isinstance(part, dict) and "step_ms" in part}
    return min(measured, key=lambda name: measured[name]) if measured else list(VARIANTS)[-1]


def _live(recipe: Recipe, where: torch.device, name: str) -> dict[str, Any]:
    """Compare steps on live views with steps on one fixed batch, in turn, and time the views alone."""
    recipe.parser.update({"num_workers": 4 if where.type == "cuda" else 0})
    step, views = recipe.step(), recipe.views()
    fixed, steps = next(views), 10 if where.type == "cuda" else 2

    def block(source: Iterator[Any]) -> float:
        finish(where)
        began = time.perf_counter()
        for image, target in islice(source, steps):
            step(image, target)
        finish(where)
        return (time.perf_counter() - began) / steps

    block(views)
    pairs = [(block(views), block(cycle([fixed]))) for _ in range(3)]
    live, still = (statistics.median(times) for times in zip(*pairs, strict=True))
    alone = median_seconds(lambda: next(views), where, 10, warm=2)
    return {
        "variant": name,
        "live_ms": round(1e3 * live, 2),
        "fixed_ms": round(1e3 * still, 2),
        "slower_percent": round(100 * (live / still - 1), 1),
        "views_alone_ms": round(1e3 * alone, 2),
    }


def _losses(recipe: Recipe, steps: int, clock: _Clock) -> dict[str, Any]:
    """Train on and follow the loss; ends before the time does."""
    step, losses = recipe.step(), []
    reserve = clock.left / 2
    for image, target in islice(recipe.views(), steps):
        losses.append(step(image, target))
        if len(losses) % 10 == 0 and clock.left < reserve:
            break
    values = torch.stack(losses).float().cpu()
    tenth = max(len(values) // 10, 1)
    return {
        "steps": len(values),
        "finite": bool(values.isfinite().all()),
        "first": round(float(values[:tenth].mean()), 4),
        "last": round(float(values[-tenth:].mean()), 4),
        "curve": [round(float(part.mean()), 4) for part in values.tensor_split(min(20, len(values)))],
    }


def _inference(where: torch.device, features: tuple[int, ...], patch_size: int, spacing: float) -> dict[str, Any]:
    """Segment a head by sliding windows, plain and fast, in turn."""
    from monai.inferers import SlidingWindowInferer
    from monai.networks.nets import BasicUNet

    from scripts.inferers.autocast import AutocastInferer
    from scripts.networks.acceleration import accelerate

    sides = [max(round(side / spacing / 16) * 16, patch_size) for side in (176, 224, 208)]  # a head of an adult
    volume = torch.randn(1, 1, *sides, device=where)
    found: dict[str, Any] = {"voxels": sides}
    for name, more in {key: VARIANTS[key] for key in ("plain", "bfloat16, channels last")}.items():
        network = BasicUNet(3, 1, 4, features, act="GELU", norm="instance", dropout=0.2, upsample="deconv")
        network = accelerate(network, where, channels_last=more["channels_last"]).eval()
        inferer = AutocastInferer(SlidingWindowInferer(patch_size, 2, 0.5, mode="gaussian"), more["amp"])
        with peak_memory_on(where) as memory, torch.inference_mode():
            seconds = median_seconds(lambda: inferer(volume, network), where, 3, warm=1)  # noqa: B023 - called here
        found[name] = {"seconds": round(seconds, 3), **memory}
    return found
