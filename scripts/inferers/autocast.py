"""Forward passes in bfloat16."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import torch
from monai.inferers import Inferer

from scripts.networks.thin_volumes import Float32WhereThin
from scripts.switches import is_on

__all__ = ["AutocastInferer", "has_bfloat16"]

logger = logging.getLogger(__name__)


@lru_cache(maxsize=8)
def has_bfloat16(device: str) -> bool:
    """Return whether a kind of device, ``cuda`` or ``cpu``, has instructions of its own for bfloat16."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class AutocastInferer(Inferer):
    """Run another inferer under bfloat16 autocast, on a GPU or a CPU.

    bfloat16 has the range of float32: gradients need no scaling, and the loss, which is worked out outside of it,
    sees no infinity that float32 would not have. On a CPU, what bfloat16 gets wrong there stays in float32
    (`scripts.networks.thin_volumes`).

    Args:
        inferer: that runs the network.
        amp: whether to do so at all; false leaves everything to ``inferer``, and so does a device without bfloat16,
            which would take many times as long.

    Examples:
        >>> from monai.inferers import SimpleInferer
        >>> network, image = torch.nn.Conv3d(1, 1, 1), torch.ones(1, 1, 2, 2, 2)
        >>> found = AutocastInferer(SimpleInferer(), amp=True)(image, network).dtype
        >>> found == (torch.bfloat16 if has_bfloat16("cpu") else torch.float32)
        True
        >>> AutocastInferer(SimpleInferer(), amp=False)(image, network).dtype
        torch.float32
    """

    def __init__(self, inferer: Inferer, amp: Any = True) -> None:
        self.inferer = inferer
        self.amp = is_on(amp, "amp")

    def __call__(self, inputs: torch.Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what ``inferer`` returns."""
        if self.amp and not has_bfloat16(inputs.device.type):
            logger.warning("%s has no bfloat16 of its own: going on in float32", inputs.device.type)
            self.amp = False
        on_cpu = self.amp and inputs.device.type == "cpu"
        with (
            torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self.amp),
            Float32WhereThin() if on_cpu else nullcontext(),
        ):
            return self.inferer(inputs, network, *args, **kwargs)
