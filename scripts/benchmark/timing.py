"""Clocks of the benchmarks: medians of work on a device, and its peak memory."""

from __future__ import annotations

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

__all__ = ["finish", "free", "in_turn", "median_seconds", "peak_memory_on"]


def finish(device: torch.device) -> None:
    """Wait until a GPU has done all that it was asked to; a CPU has already."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free(device: torch.device) -> None:
    """Give back what nobody holds."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def in_turn(
    tasks: Sequence[Callable[[], Any]], repeats: int, device: torch.device | None = None, warm: int = 0
) -> list[float]:
    """Return the median seconds of each task, all of them in every round.

    Args:
        tasks: what is timed.
        repeats: measured rounds.
        device: is waited for after each task; None where tasks do so themselves.
        warm: rounds before that are not measured.
    """
    times: list[list[float]] = [[] for _ in tasks]
    for number in range(warm + repeats):
        for task, measured in zip(tasks, times, strict=True):
            if device is not None:
                finish(device)
            began = time.perf_counter()
            task()
            if device is not None:
                finish(device)
            if number >= warm:
                measured.append(time.perf_counter() - began)
    return [statistics.median(measured) for measured in times]


def median_seconds(work: Callable[[], Any], device: torch.device, repeats: int, warm: int) -> float:
    """Return the median seconds of ``work``, each time until the device is done."""
    return in_turn([work], repeats, device, warm)[0]


@contextlib.contextmanager
def peak_memory_on(device: torch.device) -> Iterator[dict[str, Any]]:
    """Yield a mapping that holds the peak memory on a GPU afterwards, ``peak_gib``."""
    found: dict[str, Any] = {}
    free(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield found
    if device.type == "cuda":
        found["peak_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
