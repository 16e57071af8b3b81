"""The step of an evaluator that finds maps in views whose maps are known."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from monai.transforms import GaussianSmooth
from torch import Tensor

from scripts.errors import InputError
from scripts.inferers.maps import maps_in_units
from scripts.physics import load_prior
from scripts.physics.refit import candidate_protocols, refit
from scripts.views import ViewGenerator, generator_for
from scripts.views.map_targets import MAP_NAMES, MAP_SCALES, standardise_maps

__all__ = ["CONTROLS", "MapStep"]

CONTROLS = ("white noise", "smooth noise", "inverted contrast")
"""Images that no protocol gives of the head in which they lie."""

_SMOOTH = 8.0  # mm
_CELL = 4.0  # mm, as where a scan is judged


class MapStep:
    """One iteration of the evaluator: what a network finds in views of a batch, and what residuals that leaves.

    Args:
        views: makes the views; their seed is replaced by ``seed``.
        network: gives the dictionary of `scripts.networks.MapHead`.
        protocols: that the residual is looked for under (`scripts.physics.refit.candidate_protocols`).
        each: draws of each of their sequences.
        spacing: voxel size of the maps [mm].
        seed: of the views.
    """

    def __init__(
        self,
        views: ViewGenerator,
        network: Callable[[Tensor], Mapping[str, Tensor]],
        *,
        protocols: str | Mapping[str, Any],
        each: int,
        spacing: float,
        seed: int,
    ) -> None:
        self.views = copy.copy(views)
        self.views.seed = seed
        self.network = network
        self.candidates = candidate_protocols(load_prior(protocols), each)
        self.cell = max(round(_CELL / spacing), 1)
        self.smooth = GaussianSmooth(_SMOOTH / spacing)
        self.seed = seed

    @torch.no_grad()
    def __call__(self, engine: Any, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return a row for every view and control of a batch of `scripts.data.RegionDataset`.

        Each has ``subject``, ``image`` (``view`` or one of `CONTROLS`), ``protocol`` and ``residual`` by the found
        maps, NaN where the head in the view is too small for one. A view also has ``residual_true`` by its true maps;
        ``error``, the mean absolute error over head and maps in their standard deviations; and ``error_*`` and, where
        it is told, ``expected_*`` of each map in its unit. Targets are those of the training, in bounds
        (`scripts.views.map_targets.MAP_CLIP`).
        """
        maps = batch["maps"].to(engine.state.device)
        step = int(batch["step"][0])
        made = self.views(maps, step, with_maps=True)
        rows = []
        for number, protocol in enumerate(made["params"].protocols):
            image, truth = made["image"][number], made["maps"][number]
            head = truth[:1] > 0
            if not bool(head.any()):
                continue
            about = {"subject": batch["subject"][number % len(maps)], "protocol": str(protocol)}
            found = self._found(image)
            residuals = {
                "residual": self._residual(image, found, head),
                "residual_true": self._residual(image, truth, head),
            }
            rows.append({**about, "image": "view", **residuals, **_errors(found, truth, head)})
            if number < len(maps):  # one view of each anatomy
                rows += self._controls(image, head, about, step * len(maps) + number)
        return rows

    def _found(self, image: Tensor) -> Tensor:
        return maps_in_units(self.network(image[None]))[0]

    def _controls(self, image: Tensor, head: Tensor, about: Mapping[str, Any], number: int) -> list[dict[str, Any]]:
        noise = torch.randn(image.shape, generator=generator_for(self.seed, number)).to(image)
        smooth = torch.as_tensor(self.smooth(noise))
        inverted = image[head].amax() + image[head].amin() - image
        rows = []
        for name, other in zip(CONTROLS, (noise, smooth / smooth.std(), inverted), strict=True):
            seen = torch.where(head, other, image)
            rows.append({**about, "image": name, "residual": self._residual(seen, self._found(seen), head)})
        return rows

    def _residual(self, image: Tensor, maps: Tensor, head: Tensor) -> float:
        try:
            return refit(image, maps[:4], head, self.candidates, cell=self.cell).residual
        except InputError:
            return float("nan")


def _errors(found: Tensor, truth: Tensor, head: Tensor) -> dict[str, float]:
    inside = head[0]
    wanted = maps_in_units({"maps": standardise_maps(truth[None])})[0]  # within what the training looks for
    misses = (found[:4] - wanted).abs()[:, inside].mean(1)
    told = {f"error_{name}": float(miss) for name, miss in zip(MAP_NAMES, misses, strict=True)}
    if len(found) > 4:
        expected = found[4:][:, inside].mean(1)
        told.update({f"expected_{name}": float(one) for name, one in zip(MAP_NAMES, expected, strict=True)})
    told["error"] = float((misses / misses.new_tensor(MAP_SCALES)).mean())
    return told
