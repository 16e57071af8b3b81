"""The paper's pretraining step, as train.json describes it, taken out of its trainer so that it can be timed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from scripts.bundles import BUNDLES
from scripts.tasks import PRETRAIN_BUNDLE

__all__ = ["Recipe", "Step", "read_recipe"]

TRAIN = BUNDLES / PRETRAIN_BUNDLE / "configs" / "train.json"


@dataclass(frozen=True)
class Step:
    """One training step: forward and backward passes, clipping, optimiser."""

    network: nn.Module
    inferer: Any
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    max_norm: float

    def __call__(self, image: Tensor, target: Tensor) -> Tensor:
        """Train on views (V * B, 1, P, P, P); returns the loss, which is not waited for."""
        self.optimizer.zero_grad(set_to_none=True)
        loss: Tensor = self.loss(self.inferer(image, self.network), target)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)
        self.optimizer.step()
        return loss.detach()


class Recipe:
    """Components of train.json under some settings.

    Args:
        settings: id -> value, in the place of what the file says.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        from monai.bundle import ConfigParser

        self.parser = ConfigParser()
        self.parser.read_config(str(TRAIN))
        self.parser.update({"bundle_root": str(TRAIN.parents[1]), "num_workers": 0, **settings})

    def get(self, name: str) -> Any:
        """Return a component, the same at every call."""
        return self.parser.get_parsed_content(name)

    def step(self) -> Step:
        """Return the training step."""
        torch.manual_seed(self.get("seed"))
        network = self.get("network").train()
        inferer, loss, optimizer = (self.get(name) for name in ("train::inferer", "loss", "optimizer"))
        return Step(network, inferer, loss, optimizer, max_norm=self.get("gradient_clip"))

    def views(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield image and target of every step of the run, made as its trainer makes them."""
        prepare, device = self.get("train::trainer::prepare_batch"), self.get("device")
        for batch in self.get("train::dataloader"):
            yield prepare(batch, device, non_blocking=True)

    def flops(self) -> float:
        """Return the floating-point operations of a step, those of convolutions and matrix products, forward and back.

        They are counted on two anatomies; the step's are in proportion.
        """
        size = self.get("patch_size")
        image = torch.zeros(self.get("n_views") * 2, 1, size, size, size, device=self.get("device"))
        step = self.step()
        with FlopCounterMode(display=False) as counter:
            step.loss(step.network(image), image).backward()
        step.optimizer.zero_grad(set_to_none=True)
        return counter.get_total_flops() * self.get("batch_size") / 2


def read_recipe(work_dir: Path, device: torch.device, settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe of train.json, with data and results in ``work_dir``."""
    places = {name: str(work_dir) for name in ("work_dir", "output_dir", "ckpt_dir")}
    return Recipe({**places, "device": device, **settings})
