"""Views and their labels, where MONAI's engines prepare a batch: supervised training on simulated contrasts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.engines.utils import default_prepare_batch
from torch import Tensor

from scripts.errors import InputError
from scripts.ranks import rank
from scripts.views.draw import generator_for
from scripts.views.generator import SIGNAL_FLOOR, ViewGenerator
from scripts.views.normalise import normalise
from scripts.views.prepare_batch import PrepareViews
from scripts.views.variation import Variation, vary_images, vary_maps

__all__ = ["PrepareLabelledViews", "PrepareMixed", "PrepareNoisyViews", "class_labels"]

_VARIATION, _NOISE = 1, 2  # last words of the seeds, so that no two draws share a stream


class PrepareLabelledViews(PrepareViews):
    """Turn a batch of labelled regions into views and the class of each of their voxels.

    Args:
        views: generator of the views.
        classes: class (from 1) -> labels that belong to it; all others are background, 0.
        variation: what else is varied, see `scripts.views.variation.Variation`.
        seed: of the views, where it is not that of the generator.
        regions: cuts regions that the batch only names, see `scripts.data.resident.ResidentRegions`.

    Examples:
        >>> maps = torch.tensor([70.0, 0.9, 17.0, 1.55]).view(1, 4, 1, 1, 1).expand(2, 4, 20, 20, 20)
        >>> batch = {"maps": maps, "labels": torch.full((2, 1, 20, 20, 20), 4), "step": torch.zeros(2)}
        >>> views = ViewGenerator(patch_size=16, ranges={"rotation": 0.0, "scale": 0.0, "elastic": 0.0})
        >>> image, classes = PrepareLabelledViews(views, {"1": [1, 4], "2": [2]})(batch, "cpu")
        >>> tuple(image.shape), classes.unique().tolist()
        ((4, 1, 16, 16, 16), [1.0])
    """

    def __init__(
        self,
        views: ViewGenerator,
        classes: Mapping[Any, Sequence[int]],
        variation: Variation | Mapping[str, Any] | None = None,
        seed: int | None = None,
        regions: Callable[..., Mapping[str, Tensor]] | None = None,
    ) -> None:
        super().__init__(views, seed)
        self.classes = [list(classes[key]) for key in sorted(classes, key=int)]
        if sorted(int(key) for key in classes) != list(range(1, len(classes) + 1)):
            raise InputError(f"classes={dict(classes)}: number the classes from 1 on")
        self.variation = Variation.of(variation)
        self.regions = regions

    def __call__(
        self, batch: dict[str, Any], device: torch.device | str | None, non_blocking: bool = False, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Return views (N, 1, P, P, P) of a batch of `scripts.data.labels.LabelledRegionDataset` and their classes.

        The classes (N, 1, P, P, P) are float32 whole numbers; N = V * B.
        """
        maps, labels, step = self._regions(batch, device, non_blocking)
        made = self.views(maps, step=step, rank=rank())
        marks = torch.cat([torch.isin(labels, labels.new_tensor(ones)) for ones in self.classes], dim=1)
        classes = class_labels(self.views.warp(marks.float(), made["params"]))
        draws = generator_for(self.views.seed, step, rank(), _VARIATION + 10)
        return vary_images(made["image"], self.variation, draws), classes

    def _regions(
        self, batch: dict[str, Any], device: torch.device | str | None, non_blocking: bool
    ) -> tuple[Tensor, Tensor, int]:
        """Return maps, varied, labels and the number of the step."""
        step = int(batch["step"][0])
        found = batch if self.regions is None else self.regions(batch, device)
        maps, labels = (found[name].to(device, non_blocking=non_blocking) for name in ("maps", "labels"))
        draws = generator_for(self.views.seed, step, rank(), _VARIATION)
        return vary_maps(maps.float(), labels, self.variation, draws), labels, step


class PrepareNoisyViews(PrepareLabelledViews):
    """Turn a batch of regions into views with white noise, and that noise.

    Args:
        views: generator of the views, which are taken before their own corruption.
        sigma: deviation of the noise, in deviations of the image, or its bounds, between which each view has its own.
        variation: as for `PrepareLabelledViews`.
        seed: likewise.
        regions: likewise.

    Examples:
        >>> maps = torch.tensor([70.0, 0.9, 17.0, 1.55]).view(1, 4, 1, 1, 1).expand(2, 4, 20, 20, 20)
        >>> batch = {"maps": maps, "labels": torch.ones(2, 1, 20, 20, 20), "step": torch.zeros(2)}
        >>> noisy, noise = PrepareNoisyViews(ViewGenerator(patch_size=16), sigma=0.2)(batch, "cpu")
        >>> tuple(noisy.shape), round(noise.std().item(), 2)
        ((4, 1, 16, 16, 16), 0.2)
    """

    def __init__(
        self,
        views: ViewGenerator,
        sigma: float | Sequence[float] = 0.2,
        variation: Variation | Mapping[str, Any] | None = None,
        seed: int | None = None,
        regions: Callable[..., Mapping[str, Tensor]] | None = None,
    ) -> None:
        super().__init__(views, {}, variation, seed, regions)
        low, high = (sigma, sigma) if isinstance(sigma, int | float) else sigma
        if not 0 <= low <= high:
            raise InputError(f"noise_range={sigma!r} is out of bounds: give the lowest and the highest deviation")
        self.sigma = (float(low), float(high))

    def __call__(
        self, batch: dict[str, Any], device: torch.device | str | None, non_blocking: bool = False, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Return noisy views and the noise, both (N, 1, P, P, P)."""
        maps, _labels, step = self._regions(batch, device, non_blocking)
        signal = self.views.clean(maps, self.views.draw(len(maps), step, rank()))
        clean = normalise(signal, signal > SIGNAL_FLOOR)
        clean = vary_images(clean, self.variation, generator_for(self.views.seed, step, rank(), _VARIATION + 10))
        seed = generator_for(self.views.seed, step, rank(), _NOISE).initial_seed()
        draws = torch.Generator(device=clean.device).manual_seed(seed)
        noise = self.sigma[1] * torch.randn(clean.shape, generator=draws, device=clean.device)
        if self.sigma[0] < self.sigma[1]:
            share = torch.rand(len(clean), 1, 1, 1, 1, generator=draws, device=clean.device)
            noise *= 1 - share * (1 - self.sigma[0] / self.sigma[1])
        return clean + noise, noise


class PrepareMixed:
    """Turn a batch of regions into views, as another does, and leave a batch of images as it is.

    Args:
        simulated: for a batch with maps, see `scripts.data.mixed.MixedDataset`.

    Examples:
        >>> batch = {"image": torch.ones(2, 1, 4, 4, 4), "label": torch.zeros(2, 1, 4, 4, 4)}
        >>> image, label = PrepareMixed(PrepareLabelledViews(ViewGenerator(patch_size=16), {"1": [1]}))(batch, "cpu")
        >>> tuple(image.shape), tuple(label.shape)
        ((2, 1, 4, 4, 4), (2, 1, 4, 4, 4))
    """

    def __init__(self, simulated: PrepareLabelledViews) -> None:
        self.simulated = simulated

    def __call__(
        self, batch: dict[str, Any], device: torch.device | str | None, non_blocking: bool = False, **more: Any
    ) -> Any:
        """Return what the network sees and what it should give."""
        prepare = self.simulated if "maps" in batch else default_prepare_batch
        return prepare(batch, device, non_blocking, **more)


def class_labels(shares: Tensor) -> Tensor:
    """Return the class with the largest share, 0 for what is left of 1: (N, C, ...) -> (N, 1, ...) float32.

    Examples:
        >>> class_labels(torch.tensor([[0.1, 0.3], [0.2, 0.6]]).T.reshape(2, 2, 1)).flatten().tolist()
        [0.0, 2.0]
    """
    rest = 1 - shares.sum(1, keepdim=True)
    return torch.cat([rest, shares], dim=1).argmax(1, keepdim=True).float()
