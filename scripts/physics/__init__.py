"""MRI physics: signal equations, protocols, fields and noise; torch only, knows no file and no network."""

from __future__ import annotations

from scripts.physics.fields import bspline_basis, draw_field, evaluate_bspline, greville, multiplicative_field
from scripts.physics.mp2rage import mp2rage
from scripts.physics.mprage import mprage, mprage_closed_form
from scripts.physics.noise import rician
from scripts.physics.protocols import (
    PRESETS,
    SEQUENCES,
    Protocol,
    default_protocol,
    draw_protocol,
    load_prior,
    typical_protocols,
)
from scripts.physics.signals import flair, fse, gre
from scripts.physics.simulate import simulate

__all__ = [
    "PRESETS",
    "SEQUENCES",
    "Protocol",
    "bspline_basis",
    "default_protocol",
    "draw_field",
    "draw_protocol",
    "evaluate_bspline",
    "flair",
    "fse",
    "gre",
    "greville",
    "load_prior",
    "mp2rage",
    "mprage",
    "mprage_closed_form",
    "multiplicative_field",
    "rician",
    "simulate",
    "typical_protocols",
]
