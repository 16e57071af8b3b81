"""Prediction on a user's own images by a bundle's inference config."""

from __future__ import annotations

from scripts.predict.predict import predict

__all__ = ["predict"]
