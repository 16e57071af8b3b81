"""The encoder in a file of weights, of the sizes that its tensors have, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from scripts.bundles import BUNDLES
from scripts.errors import InputError
from scripts.networks import Encoder, load_encoder
from scripts.tasks import PRETRAIN_BUNDLE
from scripts.weights.encoder_state import TRAIN_ENCODER, read_encoder_state
from scripts.weights.provenance import Provenance, provenance_of, weights_file

__all__ = ["Source", "read_source"]

_LEVELS = ("conv_0.", "down_1.convs.", "down_2.convs.", "down_3.convs.", "down_4.convs.")


@dataclass(frozen=True)
class Source:
    """An encoder in evaluation mode, without dropout and on the CPU, and what is known of its weights."""

    encoder: Encoder
    in_channels: int
    provenance: Provenance


def read_source(weights: str | Path | None = None) -> Source:
    """Return the encoder in a file of weights.

    Args:
        weights: a file in any form that `scripts.weights.encoder_state.read_encoder_state` knows, or a folder: of a
            bundle, a demo, or a run of an experiment. Default: the weights of the bundle ``pretrain_seqinv``.

    Raises:
        InputError: there is no such file, or no whole convolutional encoder in it.
    """
    path = _find(weights)
    state = read_encoder_state(path)
    in_channels, widths = _sizes(state, path)
    encoder = Encoder(in_channels, widths, dropout=0.0)
    load_encoder(encoder, path)
    return Source(encoder.requires_grad_(False).eval(), in_channels, provenance_of(path, PRETRAIN_BUNDLE))


def _find(weights: str | Path | None) -> Path:
    bundle = BUNDLES / PRETRAIN_BUNDLE
    if weights is not None and (Path(weights) / "runs").is_dir() and not (Path(weights) / "models").is_dir():
        runs = sorted(path.parents[1].name for path in Path(weights).glob("runs/pretrain-*/models/model.pt"))
        known = f"such as --weights {Path(weights) / 'runs' / runs[-1]}" if runs else "once one has pretrained"
        raise InputError(f"{weights} is an experiment of many runs: give the folder of one, {known}")
    found = weights_file(bundle, weights)
    if found is None:
        missing = Path("bundles") / PRETRAIN_BUNDLE / "models" / "model.pt"
        raise InputError(
            f"{missing}: no such weights file; make one with `{TRAIN_ENCODER}`, or name another by --weights"
        )
    return found


def _sizes(state: Mapping[str, Tensor], path: Path) -> tuple[int, list[int]]:
    """Return the channels of the image and the width of each level."""
    if any(key.startswith("vit.") for key in state):
        raise InputError(
            f"{path} holds a ViT, whose number of heads its tensors do not tell: export it with "
            "`python -m monai.bundle ckpt_export`, as the page of the bundle says"
        )
    names = [f"{level}conv_1.conv.weight" for level in _LEVELS]
    first = "conv_0.conv_0.conv.weight"
    for name in (first, *names):
        if name not in state:
            raise InputError(f"{path}: lacks the tensor {name}; take weights of a whole encoder")
        if state[name].ndim != 5:
            shape = tuple(state[name].shape)
            raise InputError(
                f"{path}: {name} is of shape {shape}, not of a 3D convolution; take weights of a 3D encoder"
            )
    return state[first].shape[1], [state[name].shape[0] for name in names]
