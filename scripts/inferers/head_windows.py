"""Sliding windows over a head that leave out the air around it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from monai.data.utils import dense_patch_slices
from monai.inferers.inferer import SlidingWindowInferer
from monai.utils import convert_to_dst_type, ensure_tuple_rep, fall_back_tuple
from torch import Tensor
from tqdm import tqdm

from scripts.errors import InputError
from scripts.inferers.finite import check_finite
from scripts.transforms.foreground import head_mask

__all__ = ["HeadWindowInferer", "near_head"]

Size = tuple[int, int, int]


class HeadWindowInferer(SlidingWindowInferer):
    """MONAI's sliding windows, without the forward passes of windows that hold only background.

    Such windows are answered by a constant; blending is MONAI's. Where no mask of the head is given, it is found in
    the input, so ``inferer(inputs, network)`` is enough. A volume smaller than a window is padded with its
    minimum, as background is not 0 after z-scoring.

    Args:
        roi_size: window [voxels].
        sw_batch_size: windows per forward pass.
        overlap: share of a window that the next may overlap.
        mode: how overlapping windows are blended: ``gaussian`` or ``constant``.
        fill: the answer for background, one number per output channel, such as logits (10, 0, 0, 0); None runs
            the network on all windows.
        progress: show a bar over the windows that are run, with the time left.
        sw_device: where windows are run, default that of the input.
        device: where they are stitched, default that of the input; ``cpu`` saves GPU memory.
        cpu_thresh: volumes of more voxels than this are stitched on the CPU.

    Attributes:
        n_windows: windows of the last input, all samples together.
        n_run: how many of them the network was run on.
    """

    def __init__(
        self,
        roi_size: Sequence[int] | int,
        sw_batch_size: int = 2,
        overlap: Sequence[float] | float = 0.5,
        mode: str = "gaussian",
        fill: Sequence[float] | None = None,
        progress: bool = False,
        *,
        sw_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        cpu_thresh: int | None = None,
    ) -> None:
        super().__init__(
            roi_size,
            sw_batch_size,
            overlap,
            mode,
            sw_device=sw_device,
            device=device,
            cpu_thresh=cpu_thresh,
            with_coord=True,
        )
        if sw_batch_size < 1 or any(not 0 <= share < 1 for share in ensure_tuple_rep(overlap, 3)):
            raise InputError(f"need sw_batch_size >= 1 and 0 <= overlap < 1, got {sw_batch_size} and {overlap}")
        self.fill = None if fill is None else tuple(float(value) for value in fill)
        self.show = progress
        self.n_windows = self.n_run = 0

    def __call__(
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, head: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """Return the network's output on the whole volumes.

        Args:
            inputs: (N, C, I, J, K), background dark.
            network: maps (n, C, *roi_size) to (n, D, *roi_size).
            args: handed to the network.
            head: (N, 1, I, J, K), the mask of `scripts.transforms.foreground.head_mask`, above 0 in the head.
            kwargs: handed to the network.

        Returns:
            (N, D, I, J, K), a `MetaTensor` where ``inputs`` is one.

        Raises:
            InputError: inputs of another shape or with NaN, an output with NaN or Inf, windows that are too
                small for the network, or ``fill`` is not of D numbers.
        """
        volume = inputs.as_subclass(Tensor)
        if volume.ndim != 5 or not bool(volume.isfinite().all()):
            raise InputError(f"the image, {tuple(volume.shape)}, must be (N, C, I, J, K) without NaN or Inf: mend it")
        size = cast(Size, tuple(volume.shape[2:]))
        roi = cast(Size, fall_back_tuple(self.roi_size, size))
        before = [max(r - n, 0) // 2 for n, r in zip(size, roi, strict=True)]
        widths = [(b, max(r - n, 0) - b) for n, r, b in zip(size, roi, before, strict=True)]
        flat = [width for pair in reversed(widths) for width in pair]
        padded = torch.stack([F.pad(sample, flat, value=float(sample.min())) for sample in volume])
        near = torch.ones(len(volume), 1, *size) if self.fill is None else near_head(volume, head)
        mask = F.pad(near, flat)
        self.n_windows = self.n_run = 0
        with self._bar(self._n_expected(mask, roi)) as bar:
            answer = self._answer(_told_of(network, roi), mask > 0, bar)
            stitched = cast(Tensor, super().__call__(padded, answer, *args, **kwargs))
        check_finite(stitched, inputs)
        inside = tuple(slice(b, b + n) for b, n in zip(before, size, strict=True))
        result = stitched[(slice(None), slice(None), *inside)]
        return cast(Tensor, convert_to_dst_type(result, inputs, device=result.device)[0])

    def _bar(self, total: int) -> Any:
        often = 0.5 if sys.stderr.isatty() else 20
        return tqdm(total=total, desc="windows", unit="window", leave=False, mininterval=often, disable=not self.show)

    def _n_expected(self, mask: Tensor, roi: Size) -> int:
        """Return how many windows hold head: what the bar counts to."""
        if not self.show:
            return 0
        size = tuple(mask.shape[2:])
        shares = ensure_tuple_rep(self.overlap, 3)
        steps = [r if n == r else max(int(r * (1 - o)), 1) for n, r, o in zip(size, roi, shares, strict=True)]
        windows = dense_patch_slices(size, roi, steps)
        return sum(bool(sample[(0, *window)].any()) for sample in mask for window in windows)

    def _answer(self, network: Callable[..., Tensor], mask: Tensor, bar: Any) -> Callable[..., Tensor]:
        """Return what stands for the network in the sliding windows, which tell it where they lie."""

        def answer(windows: Tensor, places: Sequence[Sequence[slice]], *args: Any, **kwargs: Any) -> Tensor:
            held = [row for row, place in enumerate(places) if bool(mask[tuple(place)].any())]
            self.n_windows += len(places)
            self.n_run += len(held)
            if self.fill is None or len(held) == len(places):
                output = network(windows, *args, **kwargs)
                self._check(output, windows)
            else:
                output = self._partly(network, windows, held, *args, **kwargs)
            bar.update(len(held))
            return output

        return answer

    def _partly(
        self, network: Callable[..., Tensor], windows: Tensor, held: list[int], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Return the network's output on the windows ``held``, and the fill on the others."""
        constant = torch.tensor(self.fill, device=windows.device, dtype=windows.dtype).view(1, -1, 1, 1, 1)
        if not held:
            return constant.repeat(len(windows), 1, *windows.shape[2:])
        found = network(windows[held], *args, **kwargs)
        self._check(found, windows)
        output = constant.to(found).repeat(len(windows), 1, *windows.shape[2:])
        output[held] = found
        return output

    def _check(self, output: Tensor, windows: Tensor) -> None:
        if self.fill is None:
            return
        if output.shape[1] != len(self.fill) or output.shape[2:] != windows.shape[2:]:
            raise InputError(
                f"the network gives {tuple(output.shape[1:])} for a window of {tuple(windows.shape[1:])}, but fill has "
                f"{len(self.fill)} numbers: give fill one number per output channel, and windows that the network keeps"
            )


def _told_of(network: Callable[..., Tensor], roi: Size) -> Callable[..., Tensor]:
    """Return a network that says so where its windows are too small for it, as for the norm of a single cell."""

    def run(*args: Any, **kwargs: Any) -> Tensor:
        try:
            return network(*args, **kwargs)
        except InputError:
            raise
        except ValueError as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"the network cannot take windows of {' x '.join(map(str, roi))} voxels: make patch_size (roi_size) "
                f"larger ({reason})"
            ) from error

    return run


def near_head(volume: Tensor, head: Tensor | None = None) -> Tensor:
    """Return which voxels may belong to the head: those in its mask or bright, and a voxel or more around them.

    Bright is above the middle between the darkest voxel and the mean in the mask, so that a mask that misses
    part of a head costs none of it. Found at half the resolution, for speed.

    Args:
        volume: (N, C, I, J, K), background dark.
        head: (N, 1, I, J, K), above 0 in the head; None finds it in each channel.

    Returns:
        (N, 1, I, J, K) float32 on the CPU: 1 near the head of any channel, else 0.
    """
    half = F.avg_pool3d(_two_or_more(volume.float()), 2, ceil_mode=True).cpu()
    if head is None:
        masks = torch.stack([torch.stack([head_mask(channel[None])[0] for channel in sample]) for sample in half])
    else:
        masks = (F.max_pool3d(_two_or_more(head.as_subclass(Tensor).float().cpu()), 2, ceil_mode=True) > 0).expand_as(
            half
        )
    heads = torch.stack([_with_bright(*pair).any(dim=0) for pair in zip(half, masks, strict=True)])
    near = F.max_pool3d(heads[:, None].float(), kernel_size=3, stride=1, padding=1)
    for dim in (2, 3, 4):
        near = near.repeat_interleave(2, dim=dim).narrow(dim, 0, volume.shape[dim])
    return near


def _two_or_more(volume: Tensor) -> Tensor:
    """Return a volume with a single slice along an axis doubled, so that it can be halved."""
    widths = [width for n in reversed(volume.shape[2:]) for width in (0, max(2 - n, 0))]
    return F.pad(volume, widths, mode="replicate") if any(widths) else volume


def _with_bright(sample: Tensor, masks: Tensor) -> Tensor:
    """Return masks (C, I, J, K) with what is bright in each channel."""
    found = [
        mask | (image > (image.min() + image[mask].mean()) / 2) if bool(mask.any()) else mask
        for image, mask in zip(sample, masks, strict=True)
    ]
    return torch.stack(found)
