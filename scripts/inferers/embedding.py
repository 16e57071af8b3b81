"""Embedding of whole volumes: a stitched dense feature map and one pooled vector."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, cast

import torch
import torch.nn.functional as F
from monai.data.utils import dense_patch_slices
from monai.inferers.inferer import Inferer
from monai.networks.utils import eval_mode
from torch import Tensor, nn
from torch.func import functional_call
from tqdm import tqdm

from scripts.errors import InputError
from scripts.inferers.finite import check_finite

__all__ = ["EmbeddingInferer", "embed_volume", "encoder_stride"]

Size = tuple[int, int, int]


def embed_volume(
    image: Tensor,
    encoder: nn.Module,
    *,
    roi_size: Sequence[int] = (96, 96, 96),
    overlap: float = 0.25,
    sw_batch_size: int = 2,
    foreground: Tensor | None = None,
    progress: bool = False,
) -> dict[str, Tensor]:
    """Return the encoder's features of a whole volume, from overlapping windows.

    Windows start at multiples of the encoder's stride, so that the cells of overlapping windows coincide and
    can be averaged (`monai.inferers.sliding_window_inference` rounds window positions down to cells, which
    shifts features by up to one). The volume is padded at the end of each axis with its minimum. Windows
    without foreground are skipped. The encoder is put in evaluation mode meanwhile.

    Args:
        image: (1, 1, I, J, K), normalised as in pretraining (`scripts.views.zscore_foreground`).
        encoder: maps (N, 1, *roi_size) to (N, C, *cells).
        roi_size: window [voxels], a multiple of the encoder's stride.
        overlap: share of a window that the next may overlap, 0 <= overlap < 1; rounded up to whole cells.
        sw_batch_size: windows per forward pass.
        foreground: (1, 1, I, J, K), true where there is tissue; None takes voxels above the minimum, which is
            right where the background is constant and darkest.
        progress: show a bar over the windows.

    Returns:
        ``dense``: (C, i, j, k) with i = ceil(I / stride): cell 0 covers voxels 0 .. stride - 1; a cell that
        no window with foreground covers is 0. ``pooled``: (C,), the mean of the cells that hold foreground.
        ``stride``: (3,) voxels per cell, int64. All on the device of ``image``.

    Raises:
        InputError: an image of another shape, NaN or Inf in it or in its features, no foreground, or
            settings that do not fit.
    """
    mask = _foreground(image, foreground)
    roi = cast(Size, tuple(int(length) for length in roi_size))
    if len(roi) != 3 or not 0 <= overlap < 1 or sw_batch_size < 1:
        msg = f"need three roi_size, 0 <= overlap < 1 and sw_batch_size >= 1, got {roi}, {overlap}, {sw_batch_size}"
        raise InputError(msg)
    stride = encoder_stride(encoder, roi)
    size = cast(Size, tuple(image.shape[2:]))
    padded = [max(r, -(-n // s) * s) for n, r, s in zip(size, roi, stride, strict=True)]
    widths = [w for n, p in zip(reversed(size), reversed(padded), strict=True) for w in (0, p - n)]
    plain = image.as_subclass(Tensor)
    volume = F.pad(plain, widths, value=float(plain.min()))
    mask = F.pad(mask.float(), widths)
    interval = [max(int(r * (1 - overlap)) // s, 1) * s for r, s in zip(roi, stride, strict=True)]
    windows = dense_patch_slices(padded, roi, interval)
    windows = [window for window in windows if bool(mask[0, 0][window].any())]
    dense = _stitch(volume, encoder, windows, stride, sw_batch_size, progress=progress)
    check_finite(dense, image)
    cells = tuple(slice(-(-n // s)) for n, s in zip(size, stride, strict=True))
    held = F.max_pool3d(mask, stride, stride)[0, 0] > 0
    return {
        "pooled": dense[:, held].mean(dim=1),
        "dense": dense[(slice(None), *cells)].contiguous(),
        "stride": torch.tensor(stride, device=image.device),
    }


def encoder_stride(encoder: nn.Module, roi_size: Size) -> Size:
    """Return how many voxels a cell of the encoder's output spans along each axis.

    Found from a forward pass on the meta device, which works out shapes without computing anything. Where the
    encoder has an attribute ``stride``, the two must agree: an encoder rounds an unfit window down in silence.

    Raises:
        InputError: ``roi_size`` is not a multiple of the encoder's stride, or too small for it.
    """
    tensors = chain(encoder.named_parameters(), encoder.named_buffers())
    state = {name: tensor.to("meta") for name, tensor in tensors}
    try:
        with eval_mode(encoder):
            cells = functional_call(encoder, state, (torch.empty(1, 1, *roi_size, device="meta"),)).shape[2:]
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"the encoder cannot take windows of roi_size {roi_size}, change it: {reason}"
        raise InputError(msg) from error
    found = [length / n if n else 0.0 for length, n in zip(roi_size, cells, strict=True)]
    known = getattr(encoder, "stride", found)
    expected = [float(step) for step in (known if isinstance(known, Sequence) else [known] * 3)]
    if found != expected or any(step < 1 or step % 1 for step in found):
        msg = f"roi_size {roi_size} gives features of {tuple(cells)} cells: make it a multiple of the encoder's stride"
        raise InputError(msg)
    return cast(Size, tuple(int(step) for step in found))


class EmbeddingInferer(Inferer):
    """`embed_volume` in the form that MONAI's evaluators call: ``inferer(inputs, network)``.

    Args:
        roi_size: window [voxels].
        overlap: share of a window that the next may overlap.
        sw_batch_size: windows per forward pass.
        progress: show a bar over the windows.
    """

    def __init__(
        self,
        roi_size: Sequence[int] = (96, 96, 96),
        overlap: float = 0.25,
        sw_batch_size: int = 2,
        progress: bool = False,
    ) -> None:
        super().__init__()
        self.roi_size = tuple(roi_size)
        self.overlap = overlap
        self.sw_batch_size = sw_batch_size
        self.progress = progress

    def __call__(self, inputs: Tensor, network: nn.Module, *_: Any, **__: Any) -> dict[str, Tensor]:
        """Return ``pooled`` (N, C), ``dense`` (N, C, i, j, k) and ``stride`` (N, 3) of inputs (N, 1, I, J, K)."""
        embeddings = [
            embed_volume(
                image,
                network,
                roi_size=self.roi_size,
                overlap=self.overlap,
                sw_batch_size=self.sw_batch_size,
                progress=self.progress,
            )
            for image in inputs.as_subclass(Tensor).split(1)
        ]
        return {key: torch.stack([embedding[key] for embedding in embeddings]) for key in embeddings[0]}


def _foreground(image: Tensor, foreground: Tensor | None) -> Tensor:
    """Return the boolean foreground (1, 1, I, J, K) after checking the image."""
    if image.ndim != 5 or image.shape[:2] != (1, 1):
        msg = f"the image must be (1, 1, I, J, K), got {tuple(image.shape)}: give one 3D volume of one channel"
        raise InputError(msg)
    values = image.as_subclass(Tensor)
    if not bool(values.isfinite().all()):
        msg = f"the image holds {int((~values.isfinite()).sum())} NaN or Inf voxels: repair or mask them first"
        raise InputError(msg)
    mask = values > values.min() if foreground is None else foreground.as_subclass(Tensor) > 0
    if mask.shape != image.shape:
        msg = f"foreground of shape {tuple(mask.shape)} does not fit the image of {tuple(image.shape)}"
        raise InputError(msg)
    if not bool(mask.any()):
        msg = "the image holds no foreground: it is constant, or its mask is empty"
        raise InputError(msg)
    return mask


def _stitch(
    volume: Tensor,
    encoder: nn.Module,
    windows: Sequence[tuple[slice, ...]],
    stride: Size,
    sw_batch_size: int,
    *,
    progress: bool,
) -> Tensor:
    """Return the mean over windows of the features of each cell, (C, i, j, k); 0 where no window lies."""
    parameter = next(encoder.parameters(), None)
    device = volume.device if parameter is None else parameter.device
    grid = [length // s for length, s in zip(volume.shape[2:], stride, strict=True)]
    total, count = torch.zeros(0, *grid, device=volume.device), torch.zeros(grid, device=volume.device)
    starts = range(0, len(windows), sw_batch_size)
    with eval_mode(encoder):
        for start in tqdm(starts, desc="embed", unit="batch", disable=not progress):
            batch = windows[start : start + sw_batch_size]
            images = torch.stack([volume[0][(slice(None), *window)] for window in batch])
            features = encoder(images.to(device))
            if len(total) == 0:
                total = total.new_zeros(features.shape[1], *grid)
            for window, feature in zip(batch, features.to(total), strict=True):
                cells = tuple(slice(w.start // s, w.stop // s) for w, s in zip(window, stride, strict=True))
                total[(slice(None), *cells)] += feature
                count[cells] += 1
    return total / count.clamp(min=1)
