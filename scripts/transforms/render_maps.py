"""Found maps shown in a protocol that was not scanned."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from scripts.physics.rendering import render, rendered_protocol

__all__ = ["RenderMapsd"]


class RenderMapsd(MapTransform):
    """Add the image of maps under a protocol, key ``render-<sequence>``, see `scripts.physics.rendering.render`.

    Args:
        keys: of maps (4 or more, I, J, K), a `MetaTensor`: PD [p.u.], R1 [1/s], R2* [1/s] and MTsat [p.u.]; one key.
        sequence: one of `scripts.physics.rendering.RENDERED`.
        parameters: of the protocol, in s and degrees; those that are missing take typical values.

    Raises:
        InputError: no scanner could run the protocol.
    """

    def __init__(
        self, keys: KeysCollection, sequence: str, parameters: Mapping[str, float | None] | None = None
    ) -> None:
        super().__init__(keys)
        self.protocol = rendered_protocol(sequence, parameters)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Render."""
        shown = dict(data)
        for key in self.key_iterator(shown):
            maps = shown[key]
            meta = {name: value for name, value in maps.meta.items() if name != "affine"}
            image = render(maps.as_subclass(Tensor)[:4], self.protocol)
            shown[f"render-{self.protocol.sequence}"] = MetaTensor(
                image, affine=maps.affine, meta={**meta, "protocol": str(self.protocol)}
            )
        return shown
