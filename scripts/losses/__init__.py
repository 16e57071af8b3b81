"""Losses of pretraining; with several ranks they are those of the global batch."""

from __future__ import annotations

from scripts.losses.barlow import BarlowLoss
from scripts.losses.gather import gather_views, gather_with_gradient, mean_over_ranks
from scripts.losses.nt_xent import NTXentLoss
from scripts.losses.pretrain import PretrainLoss
from scripts.losses.vicreg import VICRegLoss

__all__ = [
    "BarlowLoss",
    "NTXentLoss",
    "PretrainLoss",
    "VICRegLoss",
    "gather_views",
    "gather_with_gradient",
    "mean_over_ranks",
]
