"""What a scanner shows of a whole simulated head: field strength, sequence, coil, noise, its own voxels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from scripts import physics
from scripts.cohort.anatomy import Anatomy
from scripts.cohort.head import OUTER, head_maps
from scripts.cohort.lattice import Array, Grid, sample_lattice, stream, white_lattice
from scripts.cohort.lesion import Lesion
from scripts.cohort.person import Person, draw_person_shape, make_brain
from scripts.cohort.template import TISSUES
from scripts.cohort.tissue_values import draw_values, paint_maps, scale_to_field
from scripts.io.resample import to_grid
from scripts.io.write import write_nifti

__all__ = [
    "Head",
    "InScanner",
    "Sequence3D",
    "View",
    "acquire",
    "make_head",
    "reslice",
    "write_image",
]

_NOT_GREY = ("white", "csf")


class InScanner(Protocol):
    """A whole head whose images are wanted, all on one grid."""

    @property
    def grid(self) -> Grid:
        """Of I x J x K voxels."""

    @property
    def maps(self) -> dict[str, Array]:
        """``{map: (I, J, K)}`` of the whole head."""

    @property
    def brain(self) -> NDArray[np.bool_]:
        """Where the brain is, (I, J, K)."""

    @property
    def shares(self) -> Array:
        """Shares (3, I, J, K) of grey matter with the deep nuclei, of white matter, and of fluid."""

    @property
    def extent(self) -> Array | None:
        """Share (I, J, K) that is lesion, if there is one."""


@dataclass(frozen=True)
class Head:
    """One person in the scanner, all on ``anatomy.grid``.

    Attributes:
        maps: ``{map: (I, J, K)}`` of the whole head.
        fluid: (I, J, K) share of fluid around the brain proper.
        anatomy: the brain.
        lesion: its lesion, if any.
    """

    maps: dict[str, Array]
    fluid: Array
    anatomy: Anatomy
    lesion: Lesion | None

    @property
    def grid(self) -> Grid:
        """See `InScanner`."""
        return self.anatomy.grid

    @property
    def brain(self) -> NDArray[np.bool_]:
        """See `InScanner`."""
        return self.anatomy.brain

    @property
    def shares(self) -> Array:
        """See `InScanner`."""
        anatomy = self.anatomy
        white, csf = (anatomy.fractions[TISSUES.index(name)] for name in _NOT_GREY)
        grey = anatomy.fractions.sum(0) - white - csf
        shares: Array = np.stack([anatomy.volume(values) for values in (grey, white, csf)])
        shares[2] += self.fluid
        return shares.clip(0.0, 1.0)

    @property
    def extent(self) -> Array | None:
        """See `InScanner`."""
        return None if self.lesion is None else self.anatomy.volume(self.lesion.extent)


@dataclass(frozen=True)
class Sequence3D:
    """A sequence: ``kind`` mprage, fse or flair, and its protocol [s, degrees], as in `scripts.physics`."""

    kind: str
    protocol: Mapping[str, float]


@dataclass(frozen=True)
class View:
    """The voxels of an acquisition.

    Attributes:
        axes: world direction in which each array axis runs, such as PSR.
        shape: voxels.
        spacing: [mm].
        centre: world coordinates of the middle of the volume [mm].
        tilt: rotation about x, y and z [degrees] of the slab against the world.
    """

    axes: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    centre: tuple[float, float, float]
    tilt: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0))

    def at(self, spacing: float | None) -> View:
        """Return the same field of view with isotropic voxels, or this very view where ``spacing`` is None."""
        if spacing is None:
            return self
        counts = [max(1, round(n * s / spacing)) for n, s in zip(self.shape, self.spacing, strict=True)]
        return View(self.axes, (counts[0], counts[1], counts[2]), (spacing,) * 3, self.centre, self.tilt)

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel to world (4, 4) [mm]."""
        turn = nib.orientations.axcodes2ornt(tuple(self.axes))
        matrix = np.zeros((3, 3))
        for axis, (world, sign) in enumerate(turn):
            matrix[int(world), axis] = sign * self.spacing[axis]
        for axis, angle in enumerate(np.deg2rad(self.tilt)):
            matrix = _rotation(axis, float(angle)) @ matrix
        affine = np.eye(4)
        affine[:3, :3] = matrix
        affine[:3, 3] = np.asarray(self.centre) - matrix @ ((np.asarray(self.shape) - 1) / 2)
        return affine


def make_head(person: Person, seed: int, grid: Grid, field_strength: float) -> Head:
    """Make one person's head at a field strength [T], on a `scripts.cohort.head.head_grid`."""
    shape = draw_person_shape(person, seed)
    anatomy, lesion, hyperintensity = make_brain(person, seed, grid, shape)
    outer = {name: np.asarray(row, np.float32) for name, row in OUTER.items()}
    values = scale_to_field({**draw_values(stream(seed, person.number, "tissue")), **outer}, field_strength)
    texture = stream(seed, person.number, "noise")
    brain = paint_maps(anatomy, values, texture, lesion=lesion, hyperintensity=hyperintensity)
    maps, fluid = head_maps(anatomy, shape, brain, values, texture)
    return Head(maps, fluid, anatomy, lesion)


def acquire(
    head: InScanner,
    sequence: Sequence3D,
    view: View,
    rng: np.random.Generator,
    *,
    bias: float,
    noise: float,
    gain: float = 6.0,
) -> NDArray[np.int16]:
    """Return an image (*view.shape) of a head.

    Args:
        head: the head.
        sequence: what is played out.
        view: the voxels.
        rng: draws coil sensitivity and noise.
        bias: standard deviation of the logarithm of the coil's sensitivity, features of about 70 mm.
        noise: deviation of the receiver's noise, in shares of the brain's mean signal.
        gain: of the receiver, scales the stored integers.
    """
    maps = {name: torch.from_numpy(volume) for name, volume in head.maps.items()}
    signal = _signal(maps, sequence)
    sensitivity = sample_lattice(white_lattice(rng, 70.0), head.grid.axes())[0]
    brain = torch.from_numpy(head.brain)
    level = float(signal[brain].mean())
    signal = signal * torch.from_numpy(np.exp(np.float32(bias) * sensitivity)) / level
    seen = reslice(signal.numpy()[None], head.grid, view)[0]
    draws = torch.from_numpy(rng.standard_normal((2, *seen.shape), dtype=np.float32))
    noisy = physics.rician(torch.from_numpy(seen), noise, draws)
    stored: NDArray[np.int16] = np.rint(noisy.numpy() * (100.0 * gain)).clip(0, 32767).astype(np.int16)
    return stored


def reslice(volume: Array, grid: Grid, view: View) -> Array:
    """Interpolate ``volume`` (C, I, J, K) on ``grid`` linearly at the voxels of ``view``; returns (C, *view.shape)."""
    given = MetaTensor(torch.from_numpy(volume), affine=torch.from_numpy(grid.affine))
    return np.asarray(to_grid(given, view.affine, view.shape, "bilinear").numpy())


def write_image(path: Path, volume: NDArray[Any], view: View, *, step: float | None = None) -> None:
    """Write an image, or integers of ``step``, as NIfTI."""
    write_nifti(path, volume, view.affine, step=step)


def _signal(maps: Mapping[str, torch.Tensor], sequence: Sequence3D) -> torch.Tensor:
    pd, r1, protocol = maps["PD"], maps["R1"], dict(sequence.protocol)
    if sequence.kind == "mprage":
        return physics.mprage(pd, r1, maps["R2star"], **protocol)
    if sequence.kind == "fse":
        return physics.fse(pd, r1, maps["R2"], **protocol)
    return physics.flair(pd, r1, maps["R2"], **protocol)


def _rotation(axis: int, angle: float) -> NDArray[np.float64]:
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.eye(3)
    i, j = [other for other in range(3) if other != axis]
    turn[i, i] = turn[j, j] = cos
    turn[i, j], turn[j, i] = -sin, sin
    return turn
