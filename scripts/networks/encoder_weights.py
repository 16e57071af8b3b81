"""Reading pretrained encoder weights from every form they come in, strictly."""

from __future__ import annotations

import hashlib
import logging
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.networks.freezing import freeze as freeze_module

__all__ = ["LoadReport", "freeze_encoder", "load_encoder", "read_encoder_state"]

logger = logging.getLogger(__name__)

_PRETRAIN = "python -m monai.bundle run --config_file bundles/pretrain_seqinv/configs/train.json"
_BLOCKS = ("conv_0", "down_1", "down_2", "down_3", "down_4")
_CONTAINERS = ("encoder", "model", "state_dict")
_WRAPPERS = ("_orig_mod", "module")
_NOT_ENCODER = ("upcat_", "final_conv.", "projector.", "reconstructor.")


@dataclass(frozen=True)
class LoadReport:
    """What `load_encoder` loaded: the file, its SHA-256, tensors taken from it, tensors of the encoder."""

    path: Path
    sha256: str
    n_loaded: int
    n_total: int

    def __str__(self) -> str:
        return f"{self.n_loaded} of {self.n_total} encoder tensors from {self.path} (SHA-256 {self.sha256})"


def load_encoder(encoder: nn.Module, path: str | Path, *, freeze: bool = False) -> LoadReport:
    """Load pretrained weights into an encoder, all of them or none, and log how many came from which file.

    Args:
        encoder: `Encoder`, `ViTEncoder`, or a network that holds one: a `PretrainNet`, MONAI's BasicUNet (its
            ``conv_0`` and ``down_1`` to ``down_4`` are filled, the decoder stays); also wrapped or compiled.
        path: a weights file in any form that `read_encoder_state` knows, or a bundle folder, whose
            ``models/model.pt`` is taken.
        freeze: freeze what was loaded, see `scripts.networks.freeze`.

    Raises:
        InputError: no such file, or it does not hold exactly this encoder's tensors, finite, in its shapes.
    """
    path = _weights_file(path)
    state = read_encoder_state(path)
    host, parts = _encoder_parts(encoder)
    target = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    _check_fit(state, target, path)
    for name, part in parts.items():
        prefix = f"{name}."
        part.load_state_dict({key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)})
    if freeze:
        freeze_encoder(host)
    report = LoadReport(path, hashlib.sha256(path.read_bytes()).hexdigest(), len(state), len(target))
    logger.info("%s", report)
    return report


def freeze_encoder(network: nn.Module) -> None:
    """Freeze the encoder inside a network, see `scripts.networks.freeze`; the rest stays trainable."""
    host, parts = _encoder_parts(network)
    whole = len(parts) == len(list(host.children()))
    for module in (host,) if whole else parts.values():
        freeze_module(module)


def read_encoder_state(path: str | Path) -> dict[str, Tensor]:
    """Return the encoder's tensors in a weights file, under the names they have in `Encoder` (``conv_0...``).

    Known forms: a `PretrainNet`'s state dict (``encoder.*`` and heads), a training checkpoint
    (``{"model": ...}``), a bare state dict of an encoder or a BasicUNet, and the published
    ``{"config", "state_dict"}`` and ``{"encoder"}``; each also with the prefixes that torch.compile
    (``_orig_mod.``) and DDP (``module.``) leave; and ``.safetensors`` with such names. No code in the file is run.

    Raises:
        InputError: no such file, not a weights file, more than tensors in it, or no encoder.
    """
    path = _weights_file(path)
    state = {_bare(key): value for key, value in _tensors(_read(path)).items()}
    if any(key.startswith("encoder.") for key in state):
        inside = {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}
        state = {_bare(key): value for key, value in inside.items()}
    state = {key: value for key, value in state.items() if not key.startswith(_NOT_ENCODER)}
    if not any(key.startswith((*_BLOCKS, "vit.")) for key in state):
        raise InputError(f"{path}: holds no encoder (no tensor conv_0.* or encoder.*); take a model.pt of {_PRETRAIN}")
    return state


def _weights_file(path: str | Path) -> Path:
    path = Path(path)
    if path.is_dir():
        path = path / "models" / "model.pt"
    if not path.is_file():
        raise InputError(f"{path}: no such weights file; make one with `{_PRETRAIN}` or name another")
    return path


def _read(path: Path) -> Any:
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
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise InputError(f"{path}: is no weights file of torch, or damaged; copy or download it again") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: is no safetensors file, or damaged; copy or download it again") from error
    return tensors


def _tensors(content: Any) -> dict[str, Tensor]:
    """Return the tensors by name from the innermost known container."""
    while isinstance(content, Mapping):
        inner = next((content[name] for name in _CONTAINERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        content = inner
    return {}


def _bare(key: str) -> str:
    """Return a key without the prefixes that wrappers leave at its front."""
    parts = key.split(".")
    while parts[0] in _WRAPPERS:
        parts.pop(0)
    return ".".join(parts)


def _encoder_host(network: nn.Module) -> nn.Module:
    """Return the module whose children are the encoder's blocks."""
    children = dict(network.named_children())
    if "vit" in children or all(name in children for name in _BLOCKS):
        return network
    for name in (*_WRAPPERS, "encoder"):
        if name in children:
            return _encoder_host(children[name])
    raise InputError(
        f"{type(network).__name__}: has no encoder of blocks conv_0, down_1 .. down_4; use Encoder, "
        "ViTEncoder or MONAI's BasicUNet"
    )


def _encoder_parts(network: nn.Module) -> tuple[nn.Module, dict[str, nn.Module]]:
    """Return the module whose children are the encoder's blocks, and these by name."""
    host = _encoder_host(network)
    return host, {name: part for name, part in host.named_children() if name in (*_BLOCKS, "vit")}


def _check_fit(state: Mapping[str, Tensor], target: Mapping[str, Tensor], path: Path) -> None:
    for key, value in target.items():
        if key not in state:
            raise InputError(
                f"{path}: lacks the tensor {key} of shape {tuple(value.shape)}; take weights of the same architecture"
            )
        if state[key].shape != value.shape:
            raise InputError(
                f"{path}: {key} is {tuple(state[key].shape)} there but {tuple(value.shape)} in this network; "
                f"{_width_cure(state)}"
            )
        if not bool(torch.isfinite(state[key]).all()):
            raise InputError(f"{path}: {key} holds NaN or infinity; that training diverged, take an earlier checkpoint")
    extra = next((key for key in state if key not in target), None)
    if extra is not None:
        raise InputError(
            f"{path}: holds the tensor {extra} of shape {tuple(state[extra].shape)}, which this network has "
            "not; take weights of the same architecture"
        )


def _width_cure(state: Mapping[str, Tensor]) -> str:
    widths = [value.shape[0] for key, value in sorted(state.items()) if key.endswith("conv_1.conv.weight")]
    return f"set features to the file's {widths}" if widths else "build it with the sizes of the file"
