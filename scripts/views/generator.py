"""From a batch of quantitative maps to a batch of augmented views, on the device of the maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.errors import InputError
from scripts.physics import load_prior, simulate
from scripts.physics.fields import evaluate_bspline, multiplicative_field
from scripts.physics.transfer import to_device
from scripts.views.corrupt import corrupt
from scripts.views.draw import ViewParameters, draw_protocols, draw_views, generator_for, share_geometry
from scripts.views.normalise import normalise
from scripts.views.ranges import MODES, ViewRanges

SIGNAL_FLOOR = 1e-3
"""Foreground is where the clean signal exceeds this share of its largest value: tissue that a protocol leaves
without signal counts as background, so that it cannot squeeze the contrast of what is left."""

R2_SOURCES = ("auto", "r2star", "r2", "scaled")

__all__ = ["SIGNAL_FLOOR", "ViewGenerator", "region_size"]


def region_size(patch_size: int) -> int:
    """Return the side of the region that all views of an anatomy come from: 1.2 patches, made even.

    Examples:
        >>> region_size(96)
        116
    """
    return 2 * round(patch_size * 1.2 / 2)


class ViewGenerator:
    """Simulate and augment V views of each anatomy of a batch.

    Randomness is drawn by `draw`, from (seed, step, rank) alone; `apply` is arithmetic only, so recorded
    parameters replay the same views.

    Args:
        mode: ``base`` (the default MPRAGE only), ``seqaug`` (all views of an anatomy from one drawn sequence)
            or ``seqinv`` (views of an anatomy from different sequences).
        patch_size: side of the views [voxels].
        n_views: views of each anatomy, at least 2.
        prior: name of a preset of protocols, or a prior as `scripts.physics.load_prior` takes it.
        sequences: the sequences of the prior to draw from; None takes all.
        ranges: augmentation ranges (`ViewRanges`), or a mapping with those to change.
        r2_from: where FSE and FLAIR take R2 from, see `scripts.physics.simulate`; ``auto`` takes the R2 map
            where the batch carries one and R2* otherwise.
        seed: first part of every draw.
        shared_geometry: whether all views of an anatomy have the crop, affine and warp of its first one, so that a
            voxel is the same place in all of them; by default each has its own.

    Raises:
        InputError: for an unknown mode, preset, sequence or range, or fewer than two views.

    Examples:
        Two views of each of three anatomies, from regions of 1.2 patches:

        >>> views = ViewGenerator("seqinv", patch_size=16)
        >>> maps = torch.tensor([70.0, 0.95, 21.0, 1.5]).view(1, 4, 1, 1, 1).expand(3, 4, *(views.region_size,) * 3)
        >>> made = views(maps, step=0)
        >>> tuple(made["image"].shape), len({str(protocol) for protocol in made["params"].protocols})
        ((6, 1, 16, 16, 16), 6)
    """

    def __init__(
        self,
        mode: Literal["base", "seqaug", "seqinv"] = "seqinv",
        patch_size: int = 96,
        n_views: int = 2,
        prior: str | Mapping[str, Any] = "paper",
        sequences: Sequence[str] | None = None,
        ranges: ViewRanges | Mapping[str, Any] | None = None,
        r2_from: Literal["auto", "r2star", "r2", "scaled"] = "auto",
        seed: int = 0,
        shared_geometry: bool = False,
    ) -> None:
        if mode not in MODES:
            raise InputError(f"unknown mode {mode!r}: use one of {', '.join(MODES)}")
        if n_views < 2:
            raise InputError(f"n_views is {n_views}: contrastive pretraining needs at least 2 views of an anatomy")
        if r2_from not in R2_SOURCES:
            raise InputError(f"unknown r2_from {r2_from!r}: use one of {', '.join(R2_SOURCES)}")
        self.mode = mode
        self.patch_size = patch_size
        self.region_size = region_size(patch_size)
        self.n_views = n_views
        self.prior = _restricted(load_prior(prior), sequences)
        if mode == "seqinv" and len(self.prior) < 2:
            raise InputError(
                f"seqinv pairs different sequences, but there is only {list(self.prior)}: name two or more"
            )
        self.ranges = ViewRanges.of(ranges)
        self.r2_from = r2_from
        self.seed = seed
        self.shared_geometry = shared_geometry

    def draw(self, batch: int, step: int, rank: int = 0) -> ViewParameters:
        """Return the parameters of the ``n_views * batch`` views of one step of one rank."""
        generator = generator_for(self.seed, step, rank)
        protocols = draw_protocols(self.mode, self.prior, self.n_views, batch, generator)
        params = draw_views(
            protocols,
            self.ranges,
            patch_size=self.patch_size,
            region_size=self.region_size,
            generator=generator,
        )
        return share_geometry(params, batch) if self.shared_geometry else params

    def __call__(self, maps: Tensor, step: int, rank: int = 0, *, with_maps: bool = False) -> dict[str, Any]:
        """Draw and make the views of a batch of regions, see `apply`."""
        return self.apply(maps, self.draw(len(maps), step, rank), with_maps=with_maps)

    @torch.no_grad()
    def apply(self, maps: Tensor, params: ViewParameters, *, with_maps: bool = False) -> dict[str, Any]:
        """Make the views that ``params`` describe.

        Args:
            maps: (B, 4 or 5, R, R, R) region of PD [p.u.], R1 [1/s], R2* [1/s], MTsat [p.u.] and, where there
                is one, R2 [1/s]; any float dtype.
            params: parameters of N = V * B views, view-major.
            with_maps: also return the maps that each view shows.

        Returns:
            ``image`` and ``target`` (N, 1, P, P, P) float32, normalised: the corrupted views and the same
            before corruption; ``mask`` (N, 1, P, P, P) boolean, the foreground (`SIGNAL_FLOOR`); ``params``;
            ``maps`` (N, 4, P, P, P) float32, PD to MTsat in the units of ``maps``, warped as the views are.
        """
        size = (len(params.protocols), 1, *(self.patch_size,) * 3)
        image = torch.empty(size, device=maps.device)
        target = torch.empty_like(image)
        mask = torch.empty(size, dtype=torch.bool, device=maps.device)
        for rows in self._blocks(len(params.protocols), len(maps), maps.device):
            made = self._block(maps, params.select(rows), rows)
            index = to_device(torch.tensor(rows), maps.device)
            for whole, part in zip((image, target, mask), made, strict=True):
                whole.index_copy_(0, index, part)
        found: dict[str, Any] = {"image": image, "target": target, "mask": mask, "params": params}
        if with_maps:
            found["maps"] = self.warp(maps[:, :4], params)
        return found

    def clean(self, maps: Tensor, params: ViewParameters, rows: Sequence[int] | None = None) -> Tensor:
        """Return views before corruption, (N, 1, P, P, P), scaled to a largest signal of 1.

        Args:
            maps: as `apply` takes them.
            params: parameters of N views.
            rows: the position of each of them among all views of the batch; None is 0 to N - 1.
        """
        rows = range(len(params.protocols)) if rows is None else rows
        warped = _resample(self.signal(maps, params, rows), to_device(params.control, maps.device), self.patch_size)
        peak = warped.amax(dim=(1, 2, 3, 4), keepdim=True)
        return warped.mul_(1 / peak.clamp(min=torch.finfo(warped.dtype).tiny))

    @torch.no_grad()
    def warp(self, volumes: Tensor, params: ViewParameters) -> Tensor:
        """Return volumes of the region, warped as each of N views is, (N, C, P, P, P) float32; 0 outside of it.

        Args:
            volumes: (B, C, R, R, R).
            params: parameters of N = V * B views, view-major.
        """
        control = to_device(params.control, volumes.device)
        return torch.cat([_resample(volumes.float(), part, self.patch_size) for part in control.split(len(volumes))])

    def signal(self, maps: Tensor, params: ViewParameters, rows: Sequence[int]) -> Tensor:
        """Return the simulated signal of views over the whole region, (N, 1, R, R, R); see `clean`."""
        r2 = maps[:, 4:5] if maps.shape[1] > 4 else None
        source = self.r2_from if self.r2_from != "auto" else ("r2star" if r2 is None else "r2")
        transmit = None
        if self.ranges.transmit:
            region = (maps.shape[2], maps.shape[3], maps.shape[4])
            transmit = multiplicative_field(to_device(params.transmit, maps.device), region)
        return simulate(
            maps[:, :4],
            params.protocols,
            r2=r2,
            r2_from=source,
            transmit=transmit,
            rows=[row % len(maps) for row in rows],
        )

    def _block(self, maps: Tensor, params: ViewParameters, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        target = self.clean(maps, params, rows)
        mask = target > SIGNAL_FLOOR
        drawn = {name: getattr(params, name) for name in ("bias", "gibbs", "noise", "cuboids")}
        image, seen = corrupt(target, mask, drawn, _noise(target, params))
        return normalise(image, seen), normalise(target, mask), mask

    def _blocks(self, n: int, batch: int, device: torch.device) -> list[list[int]]:
        """Rows that are made together: all on a GPU, one a core on the CPU, so that they stay in its cache."""
        order = [row for anatomy in range(batch) for row in range(anatomy, n, batch)]
        size = n if device.type != "cpu" else max(self.n_views, torch.get_num_threads())
        return [order[first : first + size] for first in range(0, n, size)]


def _noise(like: Tensor, params: ViewParameters) -> Tensor:
    """Standard normal noise (2, N, ...) for views (N, ...), each view from its own seed; 0 where sigma is 0."""
    noise = torch.empty((2, *like.shape), device=like.device)
    wanted = (params.noise > 0).tolist()

    def fill(row: int) -> None:
        if not wanted[row]:
            noise[:, row].zero_()
            return
        generator = torch.Generator(device=like.device).manual_seed(params.noise_seed[row])
        noise[0, row].normal_(generator=generator)
        noise[1, row].normal_(generator=generator)

    if like.device.type != "cpu":
        for row in range(len(like)):
            fill(row)
    else:  # torch draws random numbers on one core; it holds no lock of Python's meanwhile
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(fill, range(len(like))))
    return noise


def _restricted(prior: dict[str, Any], sequences: Sequence[str] | None) -> dict[str, Any]:
    if sequences is None:
        return prior
    unknown = [name for name in sequences if name not in prior]
    if unknown:
        raise InputError(f"unknown sequence {unknown}: the protocols hold {', '.join(sorted(prior))}")
    return {name: prior[name] for name in sequences}


def _resample(signal: Tensor, control: Tensor, patch_size: int) -> Tensor:
    """Resample (N, C, R, R, R) at the coordinates that ``control`` spans, trilinear, 0 outside."""
    scale = 2 / (signal.shape[-1] - 1)
    grid = evaluate_bspline(control.flip(-1) * scale - 1, (patch_size,) * 3)
    return F.grid_sample(signal, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
