"""Pictures of views: what the encoder sees, with the sequence and parameters of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from torch import Tensor

from scripts.handlers.tracking import TrackTraining
from scripts.io.files import atomic_write
from scripts.ranks import rank
from scripts.views import ViewGenerator, ViewParameters

__all__ = ["ViewPictures", "draw_view_pairs"]

_INCHES = 2.3  # of a plane


def draw_view_pairs(image: Tensor, target: Tensor, params: ViewParameters, n_views: int, path: str | Path) -> Path:
    """Write a PNG of the central slices: one column per anatomy; per view the corrupted image and its target.

    Args:
        image: (V * B, 1, P, P, P) views, view-major.
        target: the same before corruption.
        params: their parameters; each title says the sequence.
        n_views: V.
        path: where the PNG goes.
    """
    from matplotlib.figure import Figure

    batch = len(image) // n_views
    width, height = image.shape[2:4]
    step = round(1.15 * height)  # two lines of a title stand above each plane
    # one picture of all planes: axes for each would take matplotlib a second to lay out
    shown = np.full((2 * n_views * step, batch * (width + 1)), np.nan, dtype=np.float32)
    titles = []
    for row in range(2 * n_views):
        for b in range(batch):
            n, (top, left) = row // 2 * batch + b, ((row + 1) * step - height, b * (width + 1))
            plane = (target if row % 2 else image)[n, 0, :, :, image.shape[-1] // 2].float().cpu().numpy()
            shown[top : top + height, left : left + width] = plane.T[::-1]
            title = "target" if row % 2 else f"view {row // 2 + 1}: {params.protocols[n]}"
            titles.append((left + width / 2, top - 0.6, _wrapped(title)))
    inches = _INCHES / width
    figure = Figure(figsize=(inches * shown.shape[1], inches * shown.shape[0]))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(shown, cmap="gray", vmin=-2, vmax=3, interpolation="nearest", aspect="auto")
    axis.set_axis_off()
    for x, y, title in titles:
        axis.text(x - 0.5, y - 0.5, title, ha="center", va="bottom", fontsize=6)
    return atomic_write(path, lambda part: figure.savefig(part, dpi=110))


class ViewPictures:
    """Draw the views of a training batch every few epochs, into the output folder and MLflow.

    Args:
        views: generator of the views.
        output_dir: where ``views_epoch0001.png`` and its parameters go.
        interval: epochs between two pictures; the first and the last epoch always have one.
        tracking: MLflow run that gets a copy.
        anatomies: how many anatomies of the batch are drawn.
    """

    def __init__(
        self,
        views: ViewGenerator,
        output_dir: str | Path,
        interval: int,
        tracking: TrackTraining | None = None,
        anatomies: int = 4,
    ) -> None:
        self.views = views
        self.output_dir = Path(output_dir)
        self.interval = interval
        self.tracking = tracking
        self.anatomies = anatomies

    def attach(self, engine: Engine) -> None:
        """Draw when an epoch of ``engine`` ends, on rank 0."""
        if rank() == 0:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Draw the last batch again: its views are a function of its step."""
        epoch = engine.state.epoch
        if epoch % self.interval and epoch not in (1, engine.state.max_epochs):
            return
        batch = engine.state.batch
        maps = batch["maps"]
        params = self.views.draw(len(maps), int(batch["step"][0]), rank())
        shown = min(self.anatomies, len(maps))
        rows = [v * len(maps) + b for v in range(self.views.n_views) for b in range(shown)]
        made = self.views.apply(maps[:shown], params.select(rows))
        path = self.output_dir / f"views_epoch{epoch:04d}.png"
        draw_view_pairs(made["image"], made["target"], made["params"], self.views.n_views, path)
        record = path.with_suffix(".json")
        record.write_text(json.dumps(made["params"].to_dict()))
        if self.tracking is not None and self.tracking.run is not None:
            self.tracking.run.log_file(path, "views")
            self.tracking.run.log_file(record, "views")


def _wrapped(title: str, width: int = 34) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(title, width))
