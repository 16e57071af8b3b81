"""Freezing a module for good."""

from __future__ import annotations

from torch import nn

__all__ = ["freeze"]


def freeze(module: nn.Module) -> nn.Module:
    """Freeze ``module`` in place and return it: no gradients, and evaluation mode whatever a parent does.

    A parent's ``train()`` reaches every child and would switch a frozen encoder's dropout on again; the
    frozen module ignores it.

    Examples:
        >>> whole = nn.Sequential(freeze(nn.Linear(2, 3)), nn.Linear(3, 1)).train()
        >>> [part.training for part in whole], sum(p.numel() for p in whole.parameters() if p.requires_grad)
        ([False, True], 4)
    """
    module.eval()
    module.requires_grad_(False)
    for part in module.modules():
        part.__dict__["train"] = _StayInEval(part)
    return module


class _StayInEval:
    """Stands in for ``module.train``; a class, so that copies and pickles of the module keep it."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, mode: bool = True) -> nn.Module:  # noqa: ARG002
        return self.module
