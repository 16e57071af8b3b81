"""Learning rates of a network of which a part came pretrained: that part waits, warms up, then learns more slowly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from scripts.errors import InputError
from scripts.networks.downstream import TaskNetwork

__all__ = ["Stages", "parameter_groups", "stage_rates"]


@dataclass(frozen=True)
class Stages:
    """When and how fast the pretrained part of a network learns, in shares of the training and of the learning rate.

    Attributes:
        wait: share of the training in which it stays as it came.
        warm_up: share in which its rate then rises.
        rate: its rate after that, as a share of the others'.

    Raises:
        InputError: shares that are none, or leave it no time.

    References:
        Decoder first, then all with a warm-up, as nnssl found best for CNNs (OpenMind, arXiv:2412.17041).

    Examples:
        >>> stages = Stages(wait=0.25, warm_up=0.25, rate=0.1)
        >>> [round(stages.factor(share), 3) for share in (0.0, 0.24, 0.375, 0.5, 1.0)]
        [0.0, 0.0, 0.05, 0.1, 0.1]
    """

    wait: float = 0.3
    warm_up: float = 0.1
    rate: float = 0.1

    def __post_init__(self) -> None:
        values = (self.wait, self.warm_up, self.rate)
        good = all(isinstance(value, (int, float)) and 0 <= value <= 1 for value in values)
        if not good or self.wait + self.warm_up >= 1 or self.rate == 0:
            raise InputError(
                f"stages={values}: give shares from 0 to 1, wait and warm_up together below 1, and a rate above 0"
            )

    def factor(self, share: float) -> float:
        """Return the factor on the learning rate after a share of the training."""
        if share < self.wait:
            return 0.0
        risen = 1.0 if self.warm_up == 0 else min((share - self.wait) / self.warm_up, 1.0)
        return self.rate * risen


def parameter_groups(task_network: TaskNetwork, network: nn.Module) -> list[dict[str, Any]]:
    """Return what an optimiser shall train: all parameters that are not frozen, of a staged network in two groups.

    Args:
        task_network: tells which part came pretrained, and whether it is staged.
        network: the network that is trained; may be a wrapper of it.

    Returns:
        One group, or that of the new parameters and then that of the pretrained ones.

    Examples:
        >>> from scripts.networks import Encoder
        >>> from scripts.networks.downstream import task_network
        >>> made = task_network(Encoder(features=(2, 2, 2, 2, 2)), encoder="none")
        >>> [len(group["params"]) for group in parameter_groups(made, made.network)]
        [20]
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not task_network.staged:
        return [{"params": trained}]
    came = {id(parameter) for part in task_network.pretrained for parameter in part.parameters()}
    new = [parameter for parameter in trained if id(parameter) not in came]
    return [{"params": new}, {"params": [parameter for parameter in trained if id(parameter) in came]}]


def stage_rates(
    task_network: TaskNetwork, decay: Callable[[int], float], max_epochs: int, stages: dict[str, Any] | None = None
) -> Callable[[int], float] | list[Callable[[int], float]]:
    """Return the factor on the learning rate by epoch, of a staged network one for each of its groups.

    Args:
        task_network: as for `parameter_groups`.
        decay: factor by epoch, of all.
        max_epochs: of the training.
        stages: fields of `Stages` that shall not be its defaults.

    Examples:
        >>> from scripts.networks import Encoder
        >>> from scripts.networks.downstream import task_network
        >>> made = task_network(Encoder(features=(2, 2, 2, 2, 2)), encoder="none")
        >>> stage_rates(made, lambda epoch: 1 - epoch / 4, 4)(2)
        0.5
    """
    if not task_network.staged:
        return decay
    chosen = Stages(**(stages or {}))
    return [decay, lambda epoch: decay(epoch) * chosen.factor(epoch / max_epochs)]
