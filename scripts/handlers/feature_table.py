"""The encoder's pooled features of every test image, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from ignite.engine import Engine, Events
from torch import Tensor, nn

from scripts.inferers.embedding import embed_volume
from scripts.io.files import atomic_write
from scripts.networks.encoder_weights import encoder_parts
from scripts.ranks import gather_rows, rank
from scripts.switches import is_on

__all__ = ["FeatureTable"]


class FeatureTable:
    """Embed each image of an evaluation with the encoder inside the network, and write ``features.csv``.

    One row per image: ``subject``, ``site``, f0 .. f<C-1>, the mean of the bottleneck over the cells that hold the
    head, in windows side by side (see `scripts.inferers.embedding.embed_volume`).

    Args:
        patch_size: side of the windows [voxels].
        enabled: False does nothing.
    """

    def __init__(self, patch_size: int, enabled: Any = True) -> None:
        self.patch_size = patch_size
        self.enabled = is_on(enabled, "embed")
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Embed after each iteration of ``engine``."""
        if self.enabled:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._embed)

    def write(self, engine: Any, scores: pd.DataFrame, output_dir: Path) -> Path | None:  # noqa: ARG002
        """Write the table, on rank 0; return its path."""
        if not self.enabled:
            return None
        rows = gather_rows(self.rows)
        if rank() != 0:
            return None
        table = pd.DataFrame(rows).sort_values(["site", "subject"], kind="stable")
        return atomic_write(
            output_dir / "features.csv", lambda part: table.to_csv(part, index=False, float_format="%.6g")
        )

    def _start(self, _engine: Engine) -> None:
        self.rows = []

    def _embed(self, engine: Any) -> None:
        encoder = nn.Sequential(*encoder_parts(engine.network))
        for given, added in zip(engine.state.batch, engine.state.output, strict=True):
            sample = {**given, **added}
            image = sample["image"].as_subclass(Tensor)[None].to(engine.state.device)
            pooled = embed_volume(image, encoder, roi_size=[self.patch_size] * 3, overlap=0.0, sw_batch_size=8)[
                "pooled"
            ]
            features = {f"f{n}": float(value) for n, value in enumerate(pooled)}
            self.rows.append({"subject": str(sample["subject"]), "site": str(sample["site"]), **features})
