"""Checkpoints that survive a kill at any moment, and the handler that continues from them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from scripts.errors import InputError
from scripts.handlers.finite_loss import FiniteLoss
from scripts.handlers.folder_claim import FolderClaim
from scripts.io.files import atomic_write
from scripts.ranks import rank
from scripts.switches import is_on
from scripts.weights.archive import check_archive

__all__ = ["Checkpointing", "save_tensors"]

logger = logging.getLogger(__name__)

_ENCODER = "encoder."


def save_tensors(content: Any, path: str | Path) -> Path:
    """Write ``content`` with `torch.save`, atomically; the same tensors give the same bytes."""

    def write(part: Path) -> None:
        # given a path, torch would write its name, here a random one, into the file
        with part.open("wb") as stream:
            torch.save(content, stream)

    return atomic_write(path, write)


class Checkpointing:
    """Save everything that a run needs to continue, and continue from it.

    ``checkpoint.pt`` holds network (and its encoder alone, under ``encoder``), optimiser, schedule, gradient
    scaler, epoch, iteration and the settings of the run, and loads with ``weights_only=True``; ``model.pt``
    holds the network's tensors alone: the last ones, or with an ``evaluator`` those of its best key metric. Both
    are replaced atomically, so a kill leaves the previous ones. One run at a time writes to the folder.

    Args:
        directory: where both files lie.
        network: the network itself, not a distributed wrapper of it.
        optimizer: its optimiser.
        schedule: its learning-rate schedule.
        sampler: has an attribute ``start``, the first step to draw.
        settings: numbers and strings that define the run, read when it starts; another one's checkpoint is refused.
        resume: False starts anew even where there is a checkpoint.
        interval: epochs between two checkpoints; the last epoch always has one, whatever ended the training, and so has
            a new best.
        evaluator: MONAI evaluator that is run during the training, before the checkpoints are saved.
    """

    def __init__(
        self,
        directory: str | Path,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Any,
        sampler: Any,
        settings: Mapping[str, Any],
        *,
        resume: bool = True,
        interval: int = 1,
        evaluator: Any = None,
    ) -> None:
        self.directory = Path(directory)
        self.network = network
        self.optimizer = optimizer
        self.schedule = schedule
        self.sampler = sampler
        self._settings = settings
        self.resume = is_on(resume, "resume")
        self.interval = interval
        self.evaluator = evaluator
        self.resumed_epoch = self._saved_epoch = 0
        self._claim = FolderClaim(self.directory)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What defines the run."""
        settings: dict[str, Any] = json.loads(json.dumps(dict(self._settings)))
        return settings

    @property
    def path(self) -> Path:
        """The checkpoint to continue from."""
        return self.directory / "checkpoint.pt"

    @property
    def model_path(self) -> Path:
        """The network's tensors alone."""
        return self.directory / "model.pt"

    def attach(self, engine: Engine) -> None:
        """Load when ``engine`` starts, save when its epochs end, unless its loss is no finite number any more."""
        engine.add_event_handler(Events.STARTED, self._load)
        FiniteLoss(self.path, self.network).attach(engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save_if_due)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def claim(self) -> None:
        """Take the folder for this run alone.

        Raises:
            InputError: another process trains into it.
        """
        if rank() == 0:
            self._claim.take()

    def read(self) -> dict[str, Any] | None:
        """Return the checkpoint to continue from, None where there is none or it shall not be used.

        Raises:
            InputError: if it cannot be read, or belongs to a run with other settings.
        """
        if not self.resume or not self.path.is_file():
            return None
        try:
            check_archive(self.path)
            saved: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            theirs = saved["settings"]
        except Exception as error:
            msg = f"{self.path} is no readable checkpoint of this bundle: delete it, or type --resume false"
            raise InputError(msg) from error
        changed = [k for k in self.settings if theirs.get(k) != self.settings[k]]
        if changed:
            changes = ", ".join(f"{k} {theirs.get(k)!r} there and {self.settings[k]!r} now" for k in changed)
            msg = f"{self.path} belongs to another run ({changes}): choose another --ckpt_dir, or type --resume false"
            raise InputError(msg)
        return saved

    def _load(self, engine: Any) -> None:
        self.claim()
        saved = self.read()
        if saved is None:
            self.sampler.start = 0
            return
        self.network.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        if engine.scaler is not None and saved["scaler"]:
            engine.scaler.load_state_dict(saved["scaler"])
        engine.state.epoch, engine.state.iteration = saved["epoch"], saved["iteration"]
        if self.evaluator is not None:
            self.evaluator.state.best_metric = saved["best"]["metric"]
            self.evaluator.state.best_metric_epoch = saved["best"]["epoch"]
        self.sampler.start = saved["iteration"]
        self.resumed_epoch = self._saved_epoch = saved["epoch"]
        logger.info("Continuing after epoch %d of %d from %s", saved["epoch"], engine.state.max_epochs, self.path)

    def _save_if_due(self, engine: Any) -> None:
        epoch, best = engine.state.epoch, self._best()
        if epoch % self.interval == 0 or epoch in (engine.state.max_epochs, best["epoch"]):
            self._save(engine, best)

    def _finish(self, engine: Any) -> None:
        """Save the last epoch of a training that ended before its time, and give the folder back."""
        if engine.state.epoch != self._saved_epoch:
            self._save(engine, self._best())
        self._claim.give_back()

    def _save(self, engine: Any, best: Mapping[str, Any]) -> None:
        epoch = self._saved_epoch = engine.state.epoch
        if rank():
            return
        state = self.network.state_dict()
        content = {
            "model": state,
            # the same tensors, written once: monai's ckpt_export takes one entry of a checkpoint
            "encoder": {k.removeprefix(_ENCODER): v for k, v in state.items() if k.startswith(_ENCODER)},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": engine.scaler.state_dict() if engine.scaler is not None else {},
            "epoch": epoch,
            "iteration": engine.state.iteration,
            "best": dict(best),
            "settings": self.settings,
        }
        if best["epoch"] in (-1, epoch):
            save_tensors(state, self.model_path)
        save_tensors(content, self.path)

    def _best(self) -> dict[str, Any]:
        """Return the best key metric and its epoch, -1 as long as there is none."""
        if self.evaluator is None:
            return {"metric": 0.0, "epoch": -1}
        state = self.evaluator.state
        if math.isnan(state.best_metric):
            # monai would keep a first metric that is no number for ever: nothing is greater
            state.best_metric, state.best_metric_epoch = -1, -1
        return {"metric": float(state.best_metric), "epoch": int(state.best_metric_epoch)}
