"""The loss of map regression: L1 between maps and between their spatial gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.losses.gather import mean_over_ranks
from scripts.losses.view_loss import widen

__all__ = ["MapLoss", "gradient_error", "weighted_mean"]


class MapLoss(nn.Module):
    r"""L1 between predicted and true maps plus L1 between their spatial gradients, weighed by place and map.

    With d the difference of a map, w the weight of a voxel (1 in the head, ``background_weight`` outside) and m that of
    a map, a view's loss is

        sum_c m_c [ sum_i w_i |d_ci| / sum_i w_i + g sum_ij w_ij |d_ci - d_cj| / sum_ij w_ij ] / sum_c m_c,

    where (i, j) are neighbours along an axis, w_ij the lower of their weights and g ``gradient_weight``; then the mean
    over all views. Where the network tells a scale b, the first |d| becomes -log of a Laplace density,
    |d| / b + log 2b, so that b is the mean of |d| that the network expects there.

    Args:
        gradient_weight: g.
        background_weight: w outside of the head, where the maps are 0.
        map_weights: m of PD, R1, R2* and MTsat; 0 leaves out a map that the data lack.

    Raises:
        InputError: weights that are negative, or of no map.

    References:
        L1 with gradients: Liu et al. 2023, Brain-ID: learning contrast-agnostic anatomical representations for brain
        imaging, arXiv:2311.16914. Laplace: Kendall and Gal 2017, arXiv:1703.04977.

    Examples:
        Maps that are 0.5 too high everywhere have the right gradients:

        >>> maps = torch.zeros(2, 4, 3, 3, 3)
        >>> found = MapLoss()({"maps": maps + 0.5}, {"maps": maps, "mask": maps[:, :1] == 0})
        >>> {name: round(value.item(), 4) for name, value in found.items()}
        {'loss': 0.5, 'maps_l1': 0.5, 'maps_gradient': 0.0}
    """

    def __init__(
        self,
        gradient_weight: float = 1.0,
        background_weight: float = 0.1,
        map_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        if min(gradient_weight, background_weight, *map_weights) < 0 or not sum(map_weights) > 0:
            raise InputError(
                f"gradient_weight {gradient_weight}, background_weight {background_weight}, map_weights "
                f"{list(map_weights)}: none may be below 0, and a map must have more"
            )
        self.gradient_weight = gradient_weight
        self.background_weight = background_weight
        self.map_weights = tuple(float(weight) for weight in map_weights)

    def forward(self, pred: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``loss``, ``maps_l1``, ``maps_gradient`` and with a scale ``maps_laplace``, of the global batch.

        Args:
            pred: ``maps`` (N, 4, I, J, K), standardised, and maybe ``log_scale``, log b, likewise.
            targets: ``maps`` likewise and ``mask`` (N, 1, I, J, K) boolean, the head.

        Raises:
            InputError: shapes that do not fit.
        """
        with torch.autocast(pred["maps"].device.type, enabled=False):
            error = self._error(pred["maps"], targets["maps"])
            weight = torch.where(targets["mask"], 1.0, self.background_weight).to(error.dtype)
            per_map = {"maps_l1": weighted_mean(error.abs(), weight), "maps_gradient": gradient_error(error, weight)}
            fit = "maps_l1"
            if "log_scale" in pred:
                log_scale, fit = widen(pred["log_scale"]), "maps_laplace"
                density = error.abs() * (-log_scale).exp() + log_scale + math.log(2)
                per_map[fit] = weighted_mean(density, weight)
            terms = {name: mean_over_ranks(self._over_maps(value)) for name, value in per_map.items()}
            loss = terms[fit] + self.gradient_weight * terms["maps_gradient"]
        return {"loss": loss, **{name: value.detach() for name, value in terms.items()}}

    def _error(self, found: Tensor, wanted: Tensor) -> Tensor:
        if found.shape != wanted.shape or found.shape[1] != len(self.map_weights):
            raise InputError(
                f"maps: found of shape {tuple(found.shape)}, true of {tuple(wanted.shape)}, for "
                f"{len(self.map_weights)} map_weights; all must be of the same maps"
            )
        return widen(found) - widen(wanted)

    def _over_maps(self, values: Tensor) -> Tensor:
        """Return the mean (scalar) of values (N, C) of each view and map, the maps weighed."""
        means = [weight * values[:, channel].mean() for channel, weight in enumerate(self.map_weights) if weight]
        return torch.stack(means).sum() / sum(self.map_weights)


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Return the mean over space (N, C) of values (N, C, ...) with weights (N, 1, ...); 0 where all weights are.

    Examples:
        >>> weighted_mean(torch.tensor([[[1.0, 4.0]]]), torch.tensor([[[1.0, 0.5]]]))
        tensor([[2.]])
    """
    total = weight.flatten(2).sum(2).clamp(min=torch.finfo(weight.dtype).tiny)
    return (values * weight).flatten(2).sum(2) / total


def gradient_error(error: Tensor, weight: Tensor) -> Tensor:
    """Return the mean absolute difference (N, C) between neighbours of ``error`` (N, C, I, J, K), over three axes.

    A pair of neighbours has the lower weight (N, 1, I, J, K) of its two voxels.

    Examples:
        An error that rises by 1 along one axis of three, each with as many pairs:

        >>> error = torch.arange(3.0).view(1, 1, 3, 1, 1).expand(1, 1, 3, 3, 3)
        >>> gradient_error(error, torch.ones(1, 1, 3, 3, 3))  # 18 of 54
        tensor([[0.3333]])
    """
    total, count = error.new_zeros(error.shape[:2]), error.new_zeros((len(error), 1))
    for axis in (2, 3, 4):
        pairs = weight.shape[axis] - 1
        pair = torch.minimum(weight.narrow(axis, 0, pairs), weight.narrow(axis, 1, pairs))
        total = total + (error.diff(dim=axis).abs() * pair).flatten(2).sum(2)
        count = count + pair.flatten(2).sum(2)
    return total / count.clamp(min=torch.finfo(error.dtype).tiny)
