"""One anatomy under fixed sequences: what an encoder's invariance is measured on."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from scripts.errors import InputError
from scripts.physics import typical_protocols
from scripts.views.draw import draw_views, generator_for
from scripts.views.generator import ViewGenerator
from scripts.views.ranges import ViewRanges

__all__ = ["SequenceViews"]

_STILL = {"rotation": 0, "scale": 0, "shear": 0, "flip": 0, "elastic": 0, "gibbs_probability": 0, "cuboids": 0}


class SequenceViews:
    """The same region under fixed sequences: same geometry, each with a bias field and noise of its own.

    Args:
        sequences: names of `scripts.physics.typical_protocols`.
        patch_size: side of the regions [voxels].
        noise: largest Rician sigma, as a share of the signal's root mean square.
        bias: largest standard deviation of the log bias field.
        seed: of bias and noise.

    Raises:
        InputError: for an unknown sequence, or fewer than two.

    Examples:
        >>> import torch
        >>> views = SequenceViews(["MPRAGE", "FLAIR", "T2w FSE"], patch_size=16)
        >>> maps = torch.tensor([70.0, 0.95, 21.0, 1.5]).view(1, 4, 1, 1, 1).expand(2, 4, 16, 16, 16)
        >>> tuple(views(maps, step=0).shape)
        (6, 1, 16, 16, 16)
    """

    def __init__(
        self, sequences: Sequence[str], patch_size: int, noise: float = 0.05, bias: float = 0.2, seed: int = 0
    ) -> None:
        known = typical_protocols()
        unknown = [name for name in sequences if name not in known]
        if unknown or len(sequences) < 2:
            raise InputError(f"evaluated sequences {list(sequences)}: name two or more of {', '.join(known)}")
        self.sequences = tuple(sequences)
        self.protocols = [known[name] for name in sequences]
        self.ranges = ViewRanges.of({**_STILL, "noise": noise, "bias": bias})
        self.views = ViewGenerator("base", patch_size)
        self.seed = seed

    def __call__(self, maps: Tensor, step: int) -> Tensor:
        """Return (S * B, 1, P, P, P) normalised images of maps (B, C, P, P, P), row s * B + b in sequence s."""
        side = self.views.patch_size
        params = draw_views(
            tuple(protocol for protocol in self.protocols for _ in range(len(maps))),
            self.ranges,
            patch_size=side,
            region_size=side,
            generator=generator_for(self.seed, step),
        )
        image: Tensor = self.views.apply(maps, params)["image"]
        return image
