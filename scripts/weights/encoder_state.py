"""The tensors in a weights file, whatever form that has: an encoder's, a decoder's, a whole network's."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.errors import InputError
from scripts.tasks import PRETRAIN_BUNDLE
from scripts.weights.archive import check_archive

__all__ = [
    "BLOCKS",
    "HEADS",
    "STEPS_UP",
    "TRAIN_ENCODER",
    "WRAPPERS",
    "encoder_file",
    "read_decoder_state",
    "read_encoder_state",
    "read_network_state",
]

TRAIN_ENCODER = f"python -m monai.bundle run --config_file bundles/{PRETRAIN_BUNDLE}/configs/train.json"
"""The command that makes an encoder's weights."""
BLOCKS = ("conv_0", "down_1", "down_2", "down_3", "down_4")
"""Names of the levels of a convolutional encoder."""
STEPS_UP = ("upcat_4", "upcat_3", "upcat_2", "upcat_1")
"""Names of the blocks of its decoder."""
WRAPPERS = ("_orig_mod", "module")
"""Names of the modules that torch.compile and DDP put around a network."""
HEADS = ("decoder.", "map_head.", "voxel_projectors.", "projector.", "reconstructor.")
"""How the names of what pretraining puts on an encoder begin in its weights."""

_CONTAINERS = ("encoder", "model", "state_dict")
_WHOLE = ("model", "state_dict")
_NOT_ENCODER = ("upcat_", "final_conv.", *HEADS)


def read_encoder_state(path: str | Path) -> dict[str, Tensor]:
    """Return the encoder's tensors in a weights file, under the names they have in `Encoder` (``conv_0...``).

    Known forms: a `PretrainNet`'s state dict (``encoder.*`` and heads), a training checkpoint
    (``{"model": ...}``), a bare state dict of an encoder or a BasicUNet, and the published
    ``{"config", "state_dict"}`` and ``{"encoder"}``; each also with the prefixes that torch.compile
    (``_orig_mod.``) and DDP (``module.``) leave; and ``.safetensors`` with such names. No code in the file is run.

    Raises:
        InputError: no such file, not a weights file, more than tensors in it, or no encoder.
    """
    path = encoder_file(path)
    state = {_bare(key): value for key, value in _tensors(_read(path)).items()}
    if any(key.startswith("encoder.") for key in state):
        inside = {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}
        state = {_bare(key): value for key, value in inside.items()}
    state = {key: value for key, value in state.items() if not key.startswith(_NOT_ENCODER)}
    if not any(key.startswith((*BLOCKS, "vit.")) for key in state):
        raise InputError(
            f"{path}: holds no encoder (no tensor conv_0.* or encoder.*); take a model.pt of {TRAIN_ENCODER}"
        )
    return state


def read_decoder_state(path: str | Path) -> dict[str, Tensor]:
    """Return the decoder's tensors in a weights file, under the names they have in a BasicUNet (``upcat_4...``).

    Known forms: a `PretrainUNet`'s state dict (``decoder.*``), a BasicUNet's, and a training checkpoint of either, each
    also with the prefixes of torch.compile and DDP; and ``.safetensors`` with such names. No code in the file is run.

    Raises:
        InputError: no such file, not a weights file, or no decoder in it.
    """
    path = encoder_file(path)
    named = {_bare(key).removeprefix("decoder."): value for key, value in _tensors(_read(path), _WHOLE).items()}
    state = {key: value for key, value in named.items() if key.startswith(STEPS_UP)}
    if not state:
        raise InputError(
            f"{path}: holds no decoder (no tensor decoder.upcat_*), only an encoder; take weights of a pretraining "
            "with one, such as maps.json, or start from the encoder alone"
        )
    return state


def read_network_state(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a whole network in a weights file, under their own names.

    Known forms: a state dict and a training checkpoint, each also with the prefixes of torch.compile and DDP; and
    ``.safetensors``. No code in the file is run.

    Raises:
        InputError: not a weights file, one without tensors, or one with more than them.
    """
    state = {_bare(key): value for key, value in _tensors(_read(Path(path)), _WHOLE).items()}
    if not state:
        raise InputError(f"{path}: holds no tensors; take a model.pt of this network")
    return state


def encoder_file(path: str | Path) -> Path:
    """Return the weights file at a path, which may be the folder of a bundle.

    Raises:
        InputError: there is none.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "models" / "model.pt"
    if not path.is_file():
        raise InputError(f"{path}: no such weights file; make one with `{TRAIN_ENCODER}` or name another")
    return path


def _read(path: Path) -> Any:
    check_archive(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings():
            # the InputError below says what the warning about TorchScript archives would
            warnings.filterwarnings("ignore", ".*TorchScript archive.*", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "global" in str(error).lower():
            raise InputError(
                f"{path}: holds more than tensors, which could run code when read; if you trust its source, "
                "read it once with torch.load(..., weights_only=False) and save the state dict alone"
            ) from error
        raise InputError(f"{path}: is no weights file of torch, or damaged; copy or download it again") from error
    except Exception as error:  # whatever the unpickler stumbles over in what is no pickle
        raise InputError(f"{path}: is no weights file of torch, or damaged; copy or download it again") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: is no safetensors file, or damaged; copy or download it again") from error
    return tensors


def _tensors(content: Any, containers: Sequence[str] = _CONTAINERS) -> dict[str, Tensor]:
    """Return the tensors by name from the innermost known container."""
    while isinstance(content, Mapping):
        inner = next((content[name] for name in containers if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        content = inner
    return {}


def _bare(key: str) -> str:
    """Return a key without the prefixes that wrappers leave at its front."""
    parts = key.split(".")
    while parts[0] in WRAPPERS:
        parts.pop(0)
    return ".".join(parts)
