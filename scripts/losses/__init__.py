"""Losses of pretraining, with several ranks those of the global batch, and of the downstream tasks."""

from __future__ import annotations

from scripts.losses.barlow import BarlowLoss
from scripts.losses.denoising_loss import DenoisingLoss
from scripts.losses.gather import gather_views, gather_with_gradient, mean_over_ranks
from scripts.losses.joint_loss import JointLoss
from scripts.losses.map_loss import MapLoss
from scripts.losses.nt_xent import NTXentLoss
from scripts.losses.pretrain_loss import PretrainLoss
from scripts.losses.segmentation_loss import SegmentationLoss
from scripts.losses.vicreg import VICRegLoss
from scripts.losses.voxel_contrast import VoxelContrast

__all__ = [
    "BarlowLoss",
    "DenoisingLoss",
    "JointLoss",
    "MapLoss",
    "NTXentLoss",
    "PretrainLoss",
    "SegmentationLoss",
    "VICRegLoss",
    "VoxelContrast",
    "gather_views",
    "gather_with_gradient",
    "mean_over_ranks",
]
