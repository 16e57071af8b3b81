"""One head from a label map: shares of its tissues where a deformation takes each voxel, and maps of those.

Every tissue is a smoothed indicator in the label map, sampled at the deformed places: partial volume at any spacing.
Tissues are done one after another, each within its own box, so that memory stays that of a few volumes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from scripts.cohort.anatomy import Shape, to_template
from scripts.cohort.label_maps import LabelMap
from scripts.cohort.label_shape import BOX
from scripts.cohort.label_tissues import AIR, BRAIN, CODES, SEGMENTS
from scripts.cohort.lattice import Array, Array64, Grid
from scripts.cohort.lesion import Lesion
from scripts.cohort.template import sample_volume
from scripts.cohort.tissue_values import MAPS, draw_texture, texture_fields

__all__ = ["LESION", "LabelHead", "Place", "mix_head", "place_head"]

LESION = 5
"""In a segmentation."""

_SIGMA = 0.6  # mm, of the smoothing at 1 mm
_LEAST = 0.02  # share of tissue from which a voxel is no air
_REACH = 2.5  # standard deviations at which a Gaussian is cut off
_TRACE = 1e-4  # share below which a tissue does not count
_COARSE = 4  # voxels between those that tell where the head is
_LOWEST = (0.5, 0.05, 0.3, 0.1, 0.0)  # of each map where there is tissue
_PARENCHYMA = [1, 2, 4]  # in a segmentation


@dataclass(frozen=True)
class Place:
    """Where the N voxels of a head lie in a label map.

    Attributes:
        grid: of the head, I x J x K.
        box: slices of that grid which hold the head.
        inside: voxels of the box that are head, in its shape; N are set.
        points: (3, N) voxels of the label map.
        whole_head: whether the head is more than the brain.
    """

    grid: Grid
    box: tuple[slice, slice, slice]
    inside: NDArray[np.bool_]
    points: Array
    whole_head: bool

    @property
    def box_grid(self) -> Grid:
        """The grid of the box."""
        shape = self.inside.shape
        low = [o + self.grid.spacing * part.start for o, part in zip(self.grid.origin, self.box, strict=True)]
        return Grid((shape[0], shape[1], shape[2]), self.grid.spacing, (low[0], low[1], low[2]))

    def volume(self, values: NDArray[Any]) -> NDArray[Any]:
        """Put ``values`` (N,) into a volume (I, J, K) that is 0 elsewhere."""
        full: NDArray[Any] = np.zeros(self.grid.shape, values.dtype)
        full[self.box][self.inside] = values
        return full


@dataclass(frozen=True)
class LabelHead:
    """A head that was made from a label map, in the N voxels of its place.

    Attributes:
        maps: ``{map: (N,)}`` in the order of `MAPS`.
        segments: (N,) uint8: 1 grey, 2 white, 3 fluid, 4 deep grey, 5 lesion, 0 outside the brain.
        shares: (4, N) of grey, white, fluid and deep grey in a voxel, before there was a lesion.
        lesion: in these voxels, if there is one.
    """

    maps: dict[str, Array]
    segments: NDArray[np.uint8]
    shares: Array
    lesion: Lesion | None = None


def place_head(person: LabelMap, shape: Shape, grid: Grid, *, whole_head: bool) -> Place:
    """Find the voxels of a grid that a head, or its brain alone, fills."""
    wanted = (person.tissues != AIR) if whole_head else BRAIN[person.tissues]
    soft = _smooth(wanted, _sigma(person, grid.spacing))[None]
    box = _find_box(soft, shape, grid)
    low = [o + grid.spacing * part.start for o, part in zip(grid.origin, box, strict=True)]
    counts = [part.stop - part.start for part in box]
    part = Grid((counts[0], counts[1], counts[2]), grid.spacing, (low[0], low[1], low[2]))
    points = to_template(shape, part).reshape(3, -1)
    chosen = sample_volume(soft, points)[0] > (_LEAST if whole_head else 0.5)
    return Place(grid, box, chosen.reshape(part.shape), np.ascontiguousarray(points[:, chosen]), whole_head)


def mix_head(
    person: LabelMap,
    tissues: NDArray[np.uint8],
    place: Place,
    values: tuple[Array, Array],
    rng: np.random.Generator,
    *,
    lay: Callable[[Array], Lesion] | None = None,
) -> LabelHead:
    """Return the maps of a head; rates are means weighted by proton density, as signals of a voxel are.

    Args:
        person: whose head.
        tissues: codes in the voxels of the label map, with fat where there is fat.
        place: of the head's voxels in it.
        values: means and spreads within tissue by code, see `scripts.cohort.label_tissues.draw_tissues`.
        rng: draws the texture.
        lay: takes the share (N,) of what is no parenchyma and returns a lesion in the N voxels.
    """
    n = place.points.shape[1]
    sums = _Sums(*(np.zeros((rows, n), np.float32) for rows in (len(MAPS), len(MAPS), 5)))
    for code, where, share in _shares(tissues, place, _sigma(person, place.grid.spacing)):
        sums.segments[SEGMENTS[code], where] += share
        sums.add(code, where, share, values)
    brain = sums.segments[1:].sum(0)
    segments = np.where(brain > sums.segments[0], 1 + sums.segments[1:].argmax(0), 0).astype(np.uint8)
    if not place.whole_head:
        for part in (sums.means, sums.spreads, sums.segments):
            part /= np.maximum(brain, np.float32(1e-3))
    lesion = lay(1.0 - sums.segments[_PARENCHYMA].sum(0)) if lay else None
    if lesion is not None:
        cavity = lesion.extent * lesion.cavity
        rim = (lesion.extent - cavity) * lesion.gliosis
        for part in (sums.means, sums.spreads):
            part *= 1.0 - cavity - rim
        sums.add(CODES["cavity"], slice(None), cavity, values)
        sums.add(CODES["rim"], slice(None), rim, values)
        segments[lesion.mask & (segments > 0)] = LESION
    return LabelHead(_finish(sums, place, rng), segments, sums.segments[1:], lesion)


@dataclass(frozen=True)
class _Sums:
    """Over tissues, in N voxels: PD and rates times PD, spreads, and shares of what a segmentation names."""

    means: Array
    spreads: Array
    segments: Array

    def add(self, code: int, where: NDArray[np.intp] | slice, share: Array, values: tuple[Array, Array]) -> None:
        """Add the ``share`` of a tissue in some of the voxels."""
        mean, spread = values[0][code], values[1][code]
        for row in range(len(MAPS)):
            self.means[row, where] += share * (mean[row] if row == 0 else mean[row] * mean[0])
            self.spreads[row, where] += share * spread[row]


def _finish(sums: _Sums, place: Place, rng: np.random.Generator) -> dict[str, Array]:
    """Turn sums into maps, and add texture."""
    myelin, iron = texture_fields(rng, place.box_grid, place.inside, BOX)
    density = np.maximum(sums.means[0], np.float32(1e-2))
    maps = {}
    for row, name in enumerate(MAPS):
        signal = sums.means[row] if row == 0 else sums.means[row] / density
        signal = signal + sums.spreads[row] * draw_texture(row, myelin, iron, rng)
        maps[name] = np.maximum(signal, np.float32(_LOWEST[row]))
    return maps


def _shares(tissues: NDArray[np.uint8], place: Place, sigma: Array64) -> Iterator[tuple[int, NDArray[np.intp], Array]]:
    """Yield each tissue's code, the voxels that hold it, and its share in them."""
    margin = np.ceil(_REACH * sigma).astype(int) + 1
    nearest = _flat(place.points, tissues.shape)
    for code, box in enumerate(ndimage.find_objects(tissues), start=1):
        if box is None or not (place.whole_head or BRAIN[code]):
            continue
        low = [max(0, part.start - m) for part, m in zip(box, margin, strict=True)]
        wide = tuple(slice(start, part.stop + m) for start, part, m in zip(low, box, margin, strict=True))
        soft = _smooth(tissues[wide] == code, sigma)
        near = np.zeros(tissues.shape, bool)
        near[wide] = (soft > 0.0).numpy()
        chosen = np.flatnonzero(near.reshape(-1)[nearest])
        index = place.points[:, chosen] - np.array(low, np.float32)[:, None]
        share = sample_volume(soft[None], index)[0]
        holds = share > _TRACE
        yield code, chosen[holds], share[holds]


def _flat(points: Array, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the flat index (N,) of the voxel of a volume that is nearest to each of the points (3, N)."""
    index = [np.clip(np.rint(axis), 0, n - 1).astype(np.intp) for axis, n in zip(points, shape, strict=True)]
    flat: NDArray[np.intp] = (index[0] * shape[1] + index[1]) * shape[2] + index[2]
    return flat


def _sigma(person: LabelMap, spacing: float) -> Array64:
    """Return the smoothing in voxels of the label map, (3,): more than a little where voxels are to be larger."""
    width = np.sqrt(_SIGMA**2 + max(spacing**2 - 1.0, 0.0) / 12.0)
    sigma: Array64 = width / np.array(person.spacing)
    return sigma


def _smooth(mask: NDArray[np.bool_], sigma: Array64) -> torch.Tensor:
    """Return a mask (I, J, K) after a Gaussian of ``sigma`` (3,) voxels, with nothing beyond its faces."""
    volume = torch.from_numpy(mask).float()
    for axis, width in enumerate(sigma):
        reach = int(np.ceil(_REACH * width))
        weights = np.exp(-0.5 * (np.arange(reach + 1) / width) ** 2)
        weights /= weights[0] + 2.0 * weights[1:].sum()
        smoothed, length = volume * float(weights[0]), volume.shape[axis]
        for step in range(1, min(reach, length - 1) + 1):
            ahead, behind = volume.narrow(axis, step, length - step), volume.narrow(axis, 0, length - step)
            smoothed.narrow(axis, 0, length - step).add_(ahead, alpha=float(weights[step]))
            smoothed.narrow(axis, step, length - step).add_(behind, alpha=float(weights[step]))
        volume = smoothed
    return volume


def _find_box(soft: torch.Tensor, shape: Shape, grid: Grid) -> tuple[slice, slice, slice]:
    """Return the part of a grid in which a head lies, from every few voxels of it."""
    counts = [-(-n // _COARSE) for n in grid.shape]
    coarse = Grid((counts[0], counts[1], counts[2]), grid.spacing * _COARSE, grid.origin)
    hit = sample_volume(soft, to_template(shape, coarse).reshape(3, -1))[0].reshape(coarse.shape) > _LEAST
    (found,) = ndimage.find_objects(hit.astype(np.uint8))
    box = [
        slice(max(0, (part.start - 1) * _COARSE), min(n, part.stop * _COARSE + 1))
        for part, n in zip(found, grid.shape, strict=True)
    ]
    return box[0], box[1], box[2]
