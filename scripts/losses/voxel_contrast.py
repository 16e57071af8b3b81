"""Contrast between voxels: the same place in another view against other places of the same anatomy."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scripts.errors import InputError
from scripts.losses.gather import mean_over_ranks
from scripts.losses.view_loss import widen

__all__ = ["VoxelContrast"]

_NEVER = -1e4  # of a logit: its exponential is 0, and unlike that of minus infinity its gradient is no NaN


class VoxelContrast(nn.Module):
    r"""NT-Xent between voxels of each pair of views of an anatomy, at one or more levels of a network.

    With s_ij the cosine similarity of the embeddings of voxels i and j of two views, p the place of i in the other view
    and N(i) all voxels of both views that lie further from i than ``exclusion`` and than a cell of the level, a voxel's
    loss is

        -log [ exp(s_ip / t) / (exp(s_ip / t) + sum_{n in N(i)} exp(s_in / t)) ];

    then the mean over the voxels of both views, over all pairs of views, over the anatomies and over the levels, each
    counting the same. Embeddings that are all alike give log(1 + 2 M) with M the places that are far enough: about
    6.2 for 256. In float32, also under autocast.

    Args:
        temperature: t.
        n_views: views of each anatomy, V >= 2.
        exclusion: places as near as this to a voxel are not told from it [mm].
        spacing: side of a voxel of the views [mm].

    Raises:
        InputError: a number out of range, or fewer than two views.

    References:
        Voxels of one volume at several levels, and t: Dey et al. 2024, Learning general-purpose biomedical volume
        representations using randomized synthesis, arXiv:2411.02372, which pairs by label. Here the same place is the
        only positive.

    Examples:
        Embeddings that are all alike, of three places far apart, in two views: log(1 + 2 * 2):

        >>> places = torch.tensor([[[0.0, 0, 0], [9, 0, 0], [0, 9, 0]]])
        >>> targets = {"position": places, "valid": torch.ones(1, 3, dtype=torch.bool)}
        >>> round(VoxelContrast()({"decoder_1": torch.ones(2, 3, 5)}, targets).item(), 4)
        1.6094
    """

    def __init__(
        self, temperature: float = 0.33, n_views: int = 2, exclusion: float = 4.0, spacing: float = 1.0
    ) -> None:
        super().__init__()
        if not temperature > 0 or not spacing > 0 or exclusion < 0:
            raise InputError(
                f"voxel_temperature {temperature}, spacing {spacing}, exclusion {exclusion}: the first two must be "
                "positive, the third not below 0"
            )
        if n_views < 2:
            raise InputError(f"n_views: a loss between views needs 2 or more, got {n_views}")
        self.temperature = temperature
        self.n_views = n_views
        self.reach = exclusion / spacing  # voxels

    def forward(self, voxels: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
        """Return the scalar loss, that of the global batch on every rank.

        Args:
            voxels: level, whose name ends with its voxels per cell, -> embeddings (V * B, K, D), view-major.
            targets: ``position`` (B, K, 3) [voxels, in a frame that the views share] and ``valid`` (B, K) boolean.

        Raises:
            InputError: embeddings that do not divide into the views.
        """
        found = []
        position, valid = targets["position"], targets["valid"]
        for level, z in voxels.items():
            if len(z) != self.n_views * len(position) or z.shape[1] != position.shape[1]:
                raise InputError(
                    f"n_views: embeddings of shape {tuple(z.shape)} are not {self.n_views} views of "
                    f"{tuple(position.shape[:2])} places; give loss and views the same n_views"
                )
            with torch.autocast(z.device.type, enabled=False):
                reach = max(self.reach, int(level.rpartition("_")[2]))
                found.append(self._of_level(widen(z), position, valid, reach))
        return mean_over_ranks(torch.stack(found).mean())

    def _of_level(self, z: Tensor, position: Tensor, valid: Tensor, reach: float) -> Tensor:
        rows = F.normalize(z, dim=-1, eps=1e-8).view(self.n_views, len(position), *z.shape[1:])
        # (B, V, V, K, K): voxel k of view v beside voxel j of view w
        logits = torch.einsum("vbkd,wbjd->bvwkj", rows, rows) / self.temperature
        same = logits.diagonal(dim1=-2, dim2=-1)
        # the faster way by products rounds, and would tell a place from itself
        distance = torch.cdist(position, position, compute_mode="donot_use_mm_for_euclid_dist")
        far = (distance > reach) & valid[:, None]
        others = logits.masked_fill(~far[:, None, None], _NEVER).logsumexp(-1)
        within = others.diagonal(dim1=1, dim2=2).movedim(-1, 1)[:, :, None]
        # -log(e^s / (e^s + e^n)) = softplus(n - s), which neither over- nor underflows
        loss = F.softplus(torch.logaddexp(others, within) - same)
        pairs = ~torch.eye(self.n_views, dtype=torch.bool, device=z.device)
        weight = (pairs[:, :, None] & valid[:, None, None]).to(loss.dtype)
        per_anatomy = (loss * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1)
        return per_anatomy.mean()
