"""Encoders, the decoder and heads that pretraining puts on them, and the loading of their weights."""

from __future__ import annotations

from scripts.networks.decoder import Decoder
from scripts.networks.encoder import Encoder
from scripts.networks.encoder_weights import LoadReport, load_encoder
from scripts.networks.freezing import freeze
from scripts.networks.heads import Projector, Reconstructor
from scripts.networks.map_head import MapHead
from scripts.networks.pooling import POOLINGS, Pooling
from scripts.networks.pretrain_net import PretrainedEncoder, PretrainNet
from scripts.networks.pretrain_unet import PretrainUNet
from scripts.networks.vit import ViTEncoder
from scripts.networks.voxel_projectors import VoxelProjectors, level_channels, sample_voxels

__all__ = [
    "POOLINGS",
    "Decoder",
    "Encoder",
    "LoadReport",
    "MapHead",
    "Pooling",
    "PretrainNet",
    "PretrainUNet",
    "PretrainedEncoder",
    "Projector",
    "Reconstructor",
    "ViTEncoder",
    "VoxelProjectors",
    "freeze",
    "level_channels",
    "load_encoder",
    "sample_voxels",
]
