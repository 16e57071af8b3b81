"""Time of whole-volume inference against the bare forward passes that it cannot do without."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets.basic_unet import BasicUNet
from torch import Tensor, nn

from scripts.benchmark.timing import in_turn
from scripts.errors import InputError
from scripts.inferers.head_windows import HeadWindowInferer
from scripts.io.volume_reader import load_volume
from scripts.transforms.foreground import NormaliseForegroundd

__all__ = ["FEATURES", "benchmark"]

FEATURES = (64, 128, 256, 512, 768, 32)
_CLASSES = 4


def benchmark(
    image: str | None = None,
    features: Sequence[int] = FEATURES,
    patch_size: int = 96,
    overlap: float = 0.5,
    windows_at_once: int = 1,
    size: int | Sequence[int] | None = None,
    repeats: int = 3,
    device: str = "auto",
) -> float:
    """Print what inference of a head costs beyond its forward passes, and ``ratio N.NN`` last; return the ratio.

    Both are measured in turn: `HeadWindowInferer` on the normalised volume, and the network alone on the very
    windows that the inferer gives it, in the same batches.

    Args:
        image: NIfTI file; default: a simulated head of the embedded IXI cohort at 1 mm.
        features: widths of the network, six numbers.
        patch_size: side of a window [voxels].
        overlap: share of a window that the next may overlap.
        windows_at_once: windows per forward pass.
        size: side or sides of the part in the middle of the volume that is taken [voxels]; default: all of it.
        repeats: measurements of each; medians are told.
        device: auto, cpu or cuda.

    Raises:
        InputError: numbers that do not fit, or a bad image.
    """
    sides = (size,) * 3 if isinstance(size, int) else tuple(size or ())
    if len(features) != 6 or repeats < 1 or len(sides) not in (0, 3) or min(sides, default=1) < 1:
        raise InputError(f"need six features, repeats >= 1 and sizes >= 1, got {features}, {repeats} and {size}")
    where = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu"))
    volume = _middle(_head(image), sides).to(where)
    torch.manual_seed(0)
    network = BasicUNet(3, 1, _CLASSES, features, act="GELU", norm="instance", dropout=0.2, upsample="deconv")
    network = network.to(where).eval()
    fill = (10.0, *[0.0] * (_CLASSES - 1))
    inferer = HeadWindowInferer(patch_size, windows_at_once, overlap, fill=fill)
    batches = _recorded(inferer, volume)
    print(f"Head of {tuple(volume.shape[2:])} voxels, windows of {patch_size}^3, overlap {overlap:g}, {features}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, on {where}, medians of {repeats} in turn")
    print(f"windows {inferer.n_windows}, of which {inferer.n_run} hold head and are run, {windows_at_once} at once")
    with torch.inference_mode():
        network(batches[0])
        whole, bare = in_turn([lambda: inferer(volume, network), lambda: _run(network, batches)], repeats, where)
    print(f"bare forward passes {bare:9.2f} s, {bare / inferer.n_run:.3f} s a window")
    print(f"whole inference     {whole:9.2f} s, {whole - bare:+.2f} s")
    print(f"ratio {whole / bare:.2f}")
    return whole / bare


def _head(image: str | None) -> Tensor:
    """Return a normalised head (1, 1, I, J, K), cut to the head as in the bundles."""
    if image is not None:
        return _normalised(image)
    from scripts.cohort.ixi_cohort import make_ixi_cohort

    with tempfile.TemporaryDirectory(prefix="inference-benchmark-") as folder:
        cohort = make_ixi_cohort(Path(folder) / "ixi", guys=1, hh=0, iop=0, seed=0, spacing=1.0, progress=False)
        return _normalised(next(iter(sorted(cohort.rglob("*-T1.nii.gz")))))


def _normalised(path: str | Path) -> Tensor:
    data: Any = NormaliseForegroundd("image")({"image": load_volume(path)})
    return data["image"].as_subclass(Tensor)[None]


def _middle(volume: Tensor, sides: Sequence[int]) -> Tensor:
    """Return the part of those sides in the middle, all of the volume if there are none."""
    for axis, side in enumerate(sides, start=2):
        side = min(side, volume.shape[axis])
        volume = volume.narrow(axis, (volume.shape[axis] - side) // 2, side)
    return volume.contiguous()


def _recorded(inferer: HeadWindowInferer, volume: Tensor) -> list[Tensor]:
    """Return the batches of windows that the inferer gives to the network."""
    batches: list[Tensor] = []

    def network(windows: Tensor) -> Tensor:
        batches.append(windows.clone())
        return windows.new_zeros(len(windows), _CLASSES, *windows.shape[2:])

    inferer(volume, network)
    if not batches:
        raise InputError("no window of the volume holds head: give another image or a larger size")
    return batches


def _run(network: nn.Module, batches: Sequence[Tensor]) -> None:
    for windows in batches:
        network(windows)
