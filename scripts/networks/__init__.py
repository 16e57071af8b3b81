"""Encoders, the heads that pretraining puts on them, and the loading of their weights."""

from __future__ import annotations

from scripts.networks.encoder import Encoder
from scripts.networks.encoder_weights import LoadReport, load_encoder
from scripts.networks.freezing import freeze
from scripts.networks.heads import Projector, Reconstructor
from scripts.networks.pooling import POOLINGS, Pooling
from scripts.networks.pretrain_net import PretrainedEncoder, PretrainNet
from scripts.networks.vit import ViTEncoder

__all__ = [
    "POOLINGS",
    "Encoder",
    "LoadReport",
    "Pooling",
    "PretrainNet",
    "PretrainedEncoder",
    "Projector",
    "Reconstructor",
    "ViTEncoder",
    "freeze",
    "load_encoder",
]
