"""A network that finds maps, in the weights that map regression leaves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from scripts.errors import InputError
from scripts.tasks import TRAIN_MAPS
from scripts.weights.archive import check_numbers
from scripts.weights.encoder_state import BLOCKS, read_network_state

__all__ = ["MapState", "load_map_network", "read_map_network"]

logger = logging.getLogger(__name__)

_PARTS = ("encoder.", "decoder.", "map_head.")
_HEAD = "map_head.conv.weight"
_MAPS = 4


@dataclass(frozen=True)
class MapState:
    """What a file of weights holds of a network that finds maps.

    Attributes:
        path: the file.
        tensors: of encoder, decoder and head of the maps, by name; other heads are left out.
        features: widths of the encoder's levels.
        width: of the decoder's finest features.
        uncertainty: whether it also tells how uncertain the maps are.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    features: tuple[int, ...]
    width: int
    uncertainty: bool


def read_map_network(path: str | Path) -> MapState:
    """Return what a file of weights of `scripts.networks.PretrainUNet` holds of it.

    Raises:
        InputError: no such file, not a weights file, damaged, with NaN or Inf, or without a head of the four maps.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file; make one with `{TRAIN_MAPS}` or name another")
    state = read_network_state(path)
    tensors = {name: value for name, value in state.items() if name.startswith(_PARTS)}
    head = tensors.get(_HEAD)
    blocks = [tensors.get(f"encoder.{block}.{_last(block)}") for block in BLOCKS]
    if head is None or len(head) not in (_MAPS, 2 * _MAPS) or any(block is None for block in blocks):
        raise InputError(f"{path}: holds no network with a head for the four maps; train one with `{TRAIN_MAPS}`")
    check_numbers(path, tensors)
    widths = tuple(len(block) for block in blocks if block is not None)
    return MapState(path, tensors, widths, head.shape[1], len(head) > _MAPS)


def load_map_network(network: nn.Module, state: MapState) -> nn.Module:
    """Load a `scripts.networks.PretrainUNet` without other heads, strictly, and return it in evaluation mode.

    Raises:
        InputError: the file is of another network.
    """
    try:
        network.load_state_dict(state.tensors)
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip().rstrip(".")[:160]
        raise InputError(f"{state.path} does not hold this network ({reason}): leave --features out") from error
    logger.info("Loaded %d tensors from %s", len(state.tensors), state.path)
    return network.eval()


def _last(block: str) -> str:
    return "conv_1.conv.weight" if block == BLOCKS[0] else "convs.conv_1.conv.weight"
