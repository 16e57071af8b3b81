"""What may be drawn for a view: the modes and the ranges of every augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from scripts.errors import InputError

__all__ = ["MODES", "ViewRanges"]

MODES = ("base", "seqaug", "seqinv")


@dataclass(frozen=True)
class ViewRanges:
    """Ranges of the random spatial and intensity augmentations of one view.

    Lengths are in voxels of a patch of 96 voxels and scale with the patch; probabilities are per view.
    """

    rotation: float = 15.0
    """Largest rotation about each axis [degrees]."""
    scale: float = 0.15
    """Largest relative change of size along each axis."""
    shear: float = 0.012
    """Largest shear factor of each axis pair."""
    flip: float = 0.5
    """Probability of a flip, for each axis by itself (so 0 to 3 flips)."""
    elastic: float = 2.0
    """Standard deviation of the elastic displacement of a control point [voxels of a 96-voxel patch]."""
    elastic_control: int = 8
    """Control points of the elastic warp along each axis (cubic B-spline, at least 4)."""
    transmit: float = 0.0
    """Standard deviation of the log transmit field, which scales flip angles (0: no transmit field)."""
    bias_probability: float = 0.8
    bias: float = 0.4
    """Largest standard deviation of the log bias field's control points."""
    bias_control: int = 5
    gibbs_probability: float = 0.3
    gibbs: float = 0.5
    """Smallest share of k-space kept along each axis."""
    noise_probability: float = 0.8
    noise: float = 0.15
    """Largest Rician noise sigma, as a share of the root mean square signal of the foreground."""
    dropout_probability: float = 0.8
    cuboids: int = 6
    """Largest number of cuboids that are blanked."""
    cuboid_size: tuple[float, float] = (0.08, 0.3)
    """Range of a cuboid's sides, as a share of the patch."""

    @classmethod
    def of(cls, settings: ViewRanges | Mapping[str, Any] | None) -> ViewRanges:
        """Return ``settings`` as ranges; a mapping changes the defaults that it names.

        Raises:
            InputError: for a name that is not a range, or a value outside what it may be.

        Examples:
            >>> ViewRanges.of({"rotation": 30}).rotation, ViewRanges.of(None).rotation
            (30, 15.0)
        """
        if isinstance(settings, ViewRanges):
            return settings
        known = {field.name for field in fields(cls)}
        unknown = set(settings or {}) - known
        if unknown:
            raise InputError(f"unknown augmentation {sorted(unknown)}: use some of {sorted(known)}")
        values = dict(settings or {})
        if "cuboid_size" in values:
            values["cuboid_size"] = tuple(values["cuboid_size"])
        return cls(**values)

    def __post_init__(self) -> None:
        for name in (
            "flip",
            "bias_probability",
            "gibbs_probability",
            "noise_probability",
            "dropout_probability",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is a probability, so within 0..1, got {getattr(self, name)}")
        if self.elastic_control < 4 or self.bias_control < 4:
            raise InputError("elastic_control and bias_control are cubic B-splines: give at least 4 control points")
        if not 0 < self.gibbs <= 1:
            raise InputError(f"gibbs is the smallest share of k-space kept, so within 0..1, got {self.gibbs}")
