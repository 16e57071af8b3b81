"""Whether found maps explain the image that they were found in; if not, it is unlike what the network knows."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from scripts.errors import InputError, printable
from scripts.io.resample import voxel_sizes
from scripts.physics import load_prior
from scripts.physics.refit import candidate_protocols, refit

__all__ = ["RefitImaged"]

logger = logging.getLogger(__name__)

_CELL = 4.0  # mm


class RefitImaged(MapTransform):
    """Simulate an image again from the maps found in it, and warn if no simulated one is like it.

    See `scripts.physics.refit.refit`. Adds ``residual``, the share of its variance that is left [1]; ``protocol``,
    under which that was, in words; and ``warning``, in words, empty where the residual is below the limit.

    Args:
        keys: of maps (4 or more, I, J, K), a `MetaTensor`: PD [p.u.], R1 [1/s], R2* [1/s] and MTsat [p.u.]; one key.
        protocols: a preset or prior of protocols (`scripts.physics.load_prior`): those that the network learnt from.
        each: how many of each of its sequences are tried.
        limit: residual from which an image counts as unlike them.
        image_key: of the image (1, I, J, K).
        head_key: of its mask (1, I, J, K).

    Raises:
        InputError: unknown protocols, or numbers out of bounds.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        protocols: str | Mapping[str, Any] = "paper",
        each: int = 32,
        limit: float = 0.5,
        image_key: str = "image",
        head_key: str = "foreground",
    ) -> None:
        super().__init__(keys)
        if type(each) is not int or not 0 <= each <= 10_000:
            raise InputError(f"simulations={each!r} is out of bounds: give a whole number from 0 to 10000")
        if type(limit) not in (int, float) or not 0 <= limit <= 1:
            raise InputError(f"residual_limit={limit!r} is out of bounds: give a number from 0 to 1")
        self.candidates = candidate_protocols(load_prior(protocols), each)
        self.limit = limit
        self.image_key, self.head_key = image_key, head_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Simulate and compare.

        Raises:
            InputError: the head is too small to be compared.
        """
        told = dict(data)
        image, head = (told[name].as_subclass(Tensor) for name in (self.image_key, self.head_key))
        for key in self.key_iterator(told):
            maps = told[key]
            name = printable(maps.meta.get("filename_or_obj", "the image"))
            cell = max(round(_CELL / max(voxel_sizes(maps.affine))), 1)
            try:
                values = maps.as_subclass(Tensor)[:4]
                best = refit(image.to(values), values, head.to(values), self.candidates, cell=cell)
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
            told.update(residual=best.residual, protocol=str(best.protocol), warning=self._warning(best.residual))
            if told["warning"]:
                logger.warning("%s: %s", name, told["warning"])
        return told

    def _warning(self, residual: float) -> str:
        if residual <= self.limit:
            return ""
        return (
            f"this scan is unlike any simulated protocol: the best of {len(self.candidates)} leaves "
            f"{residual:.0%} of its variance, above {self.limit:.0%}; do not trust its maps"
        )
