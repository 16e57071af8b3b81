"""Which process of a distributed run this is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

__all__ = ["gather_rows", "main_process_first", "rank", "world_size"]

T = TypeVar("T")


def rank() -> int:
    """Return the rank of this process, 0 when the run is not distributed."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes, 1 when the run is not distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def main_process_first(work: Callable[[], T]) -> T:
    """Return ``work()``, done by rank 0 before the others begin, so that files are made once."""
    if world_size() == 1:
        return work()
    if rank() == 0:
        result = work()
        dist.barrier()
        return result
    dist.barrier()
    return work()


def gather_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of all processes, those of a subject from the first process that has it."""
    if world_size() == 1:
        return rows
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, rows)
    kept: list[dict[str, Any]] = []
    for part in parts:
        known = {(row["site"], row["subject"]) for row in kept}
        kept += [row for row in part if (row["site"], row["subject"]) not in known]
    return kept
