"""One inference over many images: one that cannot be used is told, with its reason, and the others go on."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from tqdm import tqdm

from scripts.errors import DiskFullError, InputError, find_input_error, is_memory_refused, printable, root_cause
from scripts.io.files import atomic_write
from scripts.io.image_list import image_list
from scripts.literals import literal
from scripts.predict.settings import Wanted
from scripts.processes import DeferredInterrupts

__all__ = ["TABLE", "Outcome", "predict_images"]

TABLE = "predictions.csv"
"""In the folder of the results: what became of each image."""
_COLUMNS = ("image", "status", "reason", "files", "seconds", "warning")


@dataclass
class Outcome:
    """What became of the images of a prediction.

    Attributes:
        bundle: its name.
        out: folder of the results.
        table: what was known before of images, this run's among them.
        rows: of this run, one an image: image, status (ok, failed), reason, files, seconds, warning.
        seconds: all of it took.
        picture: of the results, where one was drawn.
    """

    bundle: str
    out: Path
    table: pd.DataFrame
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    picture: Path | None = None

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The rows of images that could not be used."""
        return [row for row in self.rows if row["status"] == "failed"]

    @property
    def doubtful(self) -> list[dict[str, Any]]:
        """The rows of images whose results are not to be trusted."""
        return [row for row in self.rows if row["warning"]]

    def __str__(self) -> str:
        """Return in words where the results lie, and what went wrong."""
        n, n_failed = len(self.rows), len(self.failed)
        images = "1 image" if n == 1 else f"{n} images"
        failures = f", {n_failed} of them failed" if n_failed else ""
        lines = [f"{self.bundle}: {images} in {self.seconds / 60:.1f} min{failures}, written to {self.out}"]
        files = sorted(name for row in self.rows for name in row["files"].split(";") if name)
        tables = [path.name for path in sorted(self.out.glob("*.csv"))]
        more = [f"and {len(files) - 12} more"] if files[12:] else []
        pictures = [] if self.picture is None else [self.picture.name]
        lines += [f"  {name}" for name in [*files[:12], *more, *tables, *pictures]]
        lines += [f"warning: {row['image']}: {row['warning']}" for row in self.doubtful]
        lines += [f"failed: {_line(row['image'], row['reason'])}" for row in self.failed]
        return "\n".join(lines)


def predict_images(
    wanted: Wanted, settings: Mapping[str, Any], files: Sequence[Path], out: Path, *, strict: bool
) -> Outcome:
    """Run an inference over images and return what became of them; ``predictions.csv`` grows with each.

    Args:
        wanted: bundle and network.
        settings: of the config, but the images.
        files: the images.
        out: folder of the results.
        strict: raise what is wrong with an image.

    Raises:
        InputError: what concerns all images: settings, weights, no room; with ``strict``, an image.
    """
    outcome = Outcome(wanted.folder.name, out, _read_table(out))
    left = [path for path in files if strict or _is_good(path, settings, outcome)]
    while left:
        handler = _Rows(outcome, left, len(outcome.rows))
        try:
            _run(wanted, {**settings, "image": [str(path) for path in left]}, handler)
            break
        except Exception as error:
            known = find_input_error(error)
            if strict or not handler.began or isinstance(known, DiskFullError):
                if known is None and handler.began and is_memory_refused(error):
                    known = InputError(f"{left[handler.done]}: {_reason(error)}")
                if known is not None:
                    raise known from None
                raise
            done = handler.done
            _tell(outcome, left[done], _reason(error))
            left = left[done + 1 :]
        finally:
            handler.interrupts.release()
    order = {printable(path): place for place, path in enumerate(files)}
    outcome.rows.sort(key=lambda row: order[row["image"]])
    return outcome


class _Rows:
    """Handler that puts each finished image into the table."""

    def __init__(self, outcome: Outcome, files: Sequence[Path], first: int) -> None:
        self.outcome, self.files, self.first = outcome, files, first
        self.interrupts = DeferredInterrupts()
        self.began = 0.0

    @property
    def done(self) -> int:
        """How many of the images are finished."""
        return len(self.outcome.rows) - self.first

    def attach(self, engine: Engine) -> None:
        """Follow a run."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.interrupts.hold)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)

    def _begin(self, _: Engine) -> None:
        self.began = time.monotonic()

    def _add(self, engine: Engine) -> None:
        output = engine.state.output
        given = output[0] if isinstance(output, list) else output
        written = [Path(value) for key, value in given.items() if str(key).endswith("_file")]
        now = time.monotonic()
        warning = str(given.get("warning", ""))
        _add_row(self.outcome, self.files[self.done], written, now - self.began, warning=warning)
        self.began = now
        self.interrupts.release()


def _add_row(
    outcome: Outcome, image: Path, written: Sequence[Path], seconds: float, reason: str = "", warning: str = ""
) -> None:
    """Put what became of an image into the table, in the place of what an earlier run put there."""
    row = {
        "image": printable(image),
        "status": "failed" if reason else "ok",
        "reason": reason,
        "files": ";".join(path.relative_to(outcome.out).as_posix() for path in written),
        "seconds": round(seconds, 1),
        "warning": warning,
    }
    known = outcome.table
    outcome.table = pd.concat([known[known["image"] != row["image"]], pd.DataFrame([row]).astype(str)])
    atomic_write(outcome.out / TABLE, partial(outcome.table.to_csv, index=False))
    outcome.rows.append(row)


def _read_table(out: Path) -> pd.DataFrame:
    """Return the table in a folder of results, empty where there is none.

    Raises:
        InputError: the file is no such table.
    """
    path = out / TABLE
    if not path.exists():
        return pd.DataFrame(columns=list(_COLUMNS), dtype=str)
    try:
        known = pd.read_csv(path, dtype=str, keep_default_na=False)
        if "warning" not in known and "image" in known:  # of a version that gave none
            known["warning"] = ""
        return known[list(_COLUMNS)]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is no table with the columns {', '.join(_COLUMNS)}: move it away") from error


def _is_good(path: Path, settings: Mapping[str, Any], outcome: Outcome) -> bool:
    """Return whether an image's header can be used; put it into the table if not."""
    try:
        image_list(path, any_size=settings.get("any_size", False))
    except InputError as error:
        _tell(outcome, path, str(error))
        return False
    return True


def _tell(outcome: Outcome, path: Path, reason: str) -> None:
    _add_row(outcome, path, [], 0.0, reason)
    tqdm.write(_line(printable(path), reason))


def _line(image: str, reason: str) -> str:
    """Return what is wrong with an image, which most reasons name themselves."""
    return reason if reason.startswith(image) else f"{image}: {reason}"


def _reason(error: Exception) -> str:
    """Return in a line why an image failed; what nobody foresaw is also printed as a whole."""
    known = find_input_error(error)
    if known is not None:
        return str(known)
    cause = root_cause(error)
    first = (str(cause).strip().splitlines() or [""])[0][:200]
    if is_memory_refused(error):
        return "there is not enough memory for it: choose a smaller --patch_size, a larger --spacing, or crop it"
    traceback.print_exception(error)
    return f"{type(cause).__name__}: {first}"


def _run(wanted: Wanted, settings: Mapping[str, Any], handler: _Rows) -> None:
    """Run a bundle's inference; bad input comes out as such and not in what MONAI wraps around it."""
    from scripts.bundles import run_bundle

    bar = {
        "_target_": "scripts.handlers.progress_bar.ProgressBar",
        "description": literal(f"{wanted.folder.name}, images"),
    }
    handlers = [*wanted.config.get("handlers", []), handler, bar]
    # an absolute path stands for itself below the folder of the bundles
    run_bundle(wanted.files, settings, str(wanted.folder), {"handlers": handlers})
