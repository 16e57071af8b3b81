"""The step of an evaluator that embeds anatomies under several sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scripts.metrics.brain_cells import sample_cells
from scripts.metrics.tissue_mix import tissue_fractions
from scripts.views import generator_for
from scripts.views.sequence_views import SequenceViews

__all__ = ["FeatureStep"]


class FeatureStep:
    """One iteration of the evaluator: the features of a batch of regions under all sequences.

    Args:
        views: makes the images.
        encoders: name -> encoder; each is used in evaluation mode.
        dense_levels: which of the encoder's levels are sampled as dense features.
        cells: brain cells sampled of each anatomy and level.
        images: images in one forward pass.
    """

    def __init__(
        self,
        views: SequenceViews,
        encoders: Mapping[str, nn.Module],
        dense_levels: Sequence[int] = (-1,),
        cells: int = 16,
        images: int = 4,
    ) -> None:
        self.views = views
        self.encoders = dict(encoders)
        self.dense_levels = tuple(dense_levels)
        self.cells = cells
        self.images = images

    @torch.no_grad()
    def __call__(self, engine: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``subject``, ``tissue`` and, per encoder, pooled (B, S, C) and dense features of sampled cells."""
        step = int(batch["step"][0])
        maps = batch["maps"].to(engine.state.device).float()
        images = self.views(maps, step)
        found = {"subject": list(batch["subject"]), "tissue": tissue_fractions(maps).flatten(1).cpu()}
        for name, encoder in self.encoders.items():
            encoder.to(engine.state.device).eval()
            found[name] = self._features(encoder, images, maps, step)
        return found

    def _features(self, encoder: Any, images: Tensor, maps: Tensor, step: int) -> dict[Any, Any]:
        chunks = [encoder.levels(part) for part in images.split(self.images)]
        pooled = torch.cat([levels[-1].flatten(2).mean(2) for levels in chunks])
        n_sequences, batch = len(self.views.sequences), len(maps)
        found: dict[Any, Any] = {"pooled": pooled.view(n_sequences, batch, -1).transpose(0, 1).cpu()}
        for level in self.dense_levels:
            dense = torch.cat([levels[level] for levels in chunks])
            by_anatomy = dense.view(n_sequences, batch, *dense.shape[1:]).transpose(0, 1)
            found[level] = self._sample(by_anatomy, maps, step)
        return found

    def _sample(self, dense: Tensor, maps: Tensor, step: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each anatomy: features (m, S, C) and tissue (m, 3) of up to ``cells`` cells that are mostly brain."""
        sampled = []
        for b, (features, anatomy) in enumerate(zip(dense, maps, strict=True)):
            cells, tissue = sample_cells(features, anatomy, self.cells, generator_for(step, b))
            sampled.append((cells.cpu().numpy(), tissue.cpu().numpy()))
        return sampled
