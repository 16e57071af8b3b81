"""Less memory for more time: what lies inside of a network's parts is computed again for the gradient, view by view."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint

from scripts.errors import InputError
from scripts.networks.thin_volumes import Float32WhereThin

__all__ = ["PARTS", "recompute"]

PARTS = ("encoder", "decoder", "reconstructor")
"""Names of the parts of a pretraining's network that treat each view by itself."""


def recompute(network: nn.Module) -> nn.Module:
    """Let the parts of a pretraining's network keep nothing but what they give; return the network, changed in place.

    A part runs view by view, and once more for its gradient, so that the activations of a single view are in memory at
    a time; the losses still see all views together. Results and gradients are those of the plain network, as no part
    mixes views; its dropout draws other values. The state dict stays.

    Args:
        network: has some of `PARTS`.

    Raises:
        InputError: it has none of them.

    References:
        Chen et al. 2016, arXiv:1604.06174.

    Examples:
        >>> from scripts.networks import Encoder, PretrainedEncoder
        >>> net = recompute(PretrainedEncoder(Encoder(features=(2, 2, 2, 2, 2), dropout=0.0)))
        >>> tuple(net(torch.zeros(3, 1, 32, 32, 32)).shape)
        (3, 2, 2, 2, 2)
    """
    parts = [part for name, part in network.named_children() if name in PARTS]
    if not parts:
        raise InputError(f"recompute: {type(network).__name__} has no {', '.join(PARTS)}: leave it out")
    for part in parts:
        for method in ("forward", "levels"):
            if hasattr(part, method):
                setattr(part, method, _ViewByView(getattr(part, method)))
    return network


class _ViewByView:
    """Stands in for a method of a module; a class, so that a copy of the module keeps it."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method

    def __call__(self, inputs: Any) -> Any:
        """Return what the method makes of a batch, a tensor (N, ...) or several of them."""
        if not torch.is_grad_enabled():
            return self.method(inputs)
        n = len(inputs if isinstance(inputs, Tensor) else inputs[0])
        views = [tree_map(lambda value, k=k: value[k : k + 1], inputs) for k in range(n)]
        given = [checkpoint(self.method, view, use_reentrant=False, context_fn=_contexts) for view in views]
        return tree_map(lambda *values: torch.cat(values), *given)


def _contexts() -> tuple[Any, Any]:
    """Return what the first and the second run stand in: the same, as autocast may be on."""
    context = Float32WhereThin if torch.is_autocast_enabled("cpu") else nullcontext
    return context(), context()
