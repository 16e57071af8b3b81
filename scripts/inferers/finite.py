"""Whether what a network answered is numbers."""

from __future__ import annotations

from torch import Tensor

from scripts.errors import InputError

__all__ = ["check_finite"]


def check_finite(output: Tensor, inputs: Tensor) -> None:
    """Make sure that a network's output on images holds neither NaN nor infinity.

    Args:
        output: of any shape.
        inputs: the images; those that know their file are named.

    Raises:
        InputError: it does.
    """
    if bool(output.isfinite().all()):
        return
    names = getattr(inputs, "meta", {}).get("filename_or_obj", "the image")
    name = names if isinstance(names, str) else ", ".join(str(name) for name in names)
    raise InputError(
        f"{name}: the network gives NaN or Inf: check its weights, and try without autocast if that is switched on"
    )
