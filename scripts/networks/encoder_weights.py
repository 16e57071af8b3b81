"""Loading pretrained weights into an encoder or a decoder, strictly."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.networks.freezing import freeze as freeze_module
from scripts.weights.encoder_state import (
    BLOCKS,
    STEPS_UP,
    WRAPPERS,
    encoder_file,
    read_decoder_state,
    read_encoder_state,
)

__all__ = [
    "LoadReport",
    "decoder_parts",
    "encoder_parts",
    "freeze_encoder",
    "load_decoder",
    "load_encoder",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadReport:
    """What was loaded: the file, its SHA-256, tensors taken from it, tensors of the part of the network, that part."""

    path: Path
    sha256: str
    n_loaded: int
    n_total: int
    part: str = "encoder"

    def __str__(self) -> str:
        return f"{self.n_loaded} of {self.n_total} {self.part} tensors from {self.path} (SHA-256 {self.sha256})"


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

    Examples:
        >>> import tempfile
        >>> from scripts.networks import Encoder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "model.pt"
        ...     torch.save(Encoder(features=(2, 2, 2, 2, 2)).state_dict(), path)
        ...     report = load_encoder(Encoder(features=(2, 2, 2, 2, 2)), path)
        >>> report.n_loaded, report.n_total  # weights and biases of ten convolutions
        (20, 20)
    """
    path = encoder_file(path)
    state = read_encoder_state(path)
    host, parts = _encoder_parts(encoder)
    report = _load(parts, state, path, "encoder", _width_cure(state))
    if freeze:
        freeze_encoder(host)
    return report


def load_decoder(network: nn.Module, path: str | Path, *, freeze: bool = False) -> LoadReport:
    """Load the decoder of a pretraining into a U-Net, all of it or nothing, and log how many tensors came from where.

    Args:
        network: MONAI's BasicUNet, whose ``upcat_4`` to ``upcat_1`` are filled; its last convolution stays.
        path: a weights file in any form that `read_decoder_state` knows, or a bundle folder, whose
            ``models/model.pt`` is taken.
        freeze: freeze what was loaded, see `scripts.networks.freeze`.

    Raises:
        InputError: no such file, no decoder in it or in the network, or not exactly this network's.

    Examples:
        >>> import tempfile
        >>> from monai.networks.nets import BasicUNet
        >>> from scripts.networks import Decoder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "model.pt"
        ...     torch.save({f"decoder.{k}": v for k, v in Decoder((2, 2, 2, 2, 2), 2).state_dict().items()}, path)
        ...     report = load_decoder(BasicUNet(features=(2, 2, 2, 2, 2, 2), norm="instance"), path)
        >>> report.n_loaded, report.n_total  # weights and biases of four transposed and eight other convolutions
        (24, 24)
    """
    path = encoder_file(path)
    state = read_decoder_state(path)
    parts = dict(zip(STEPS_UP, decoder_parts(network), strict=True))
    finest = state.get("upcat_1.convs.conv_1.conv.weight")
    cure = "take weights of the same architecture" if finest is None else f"the last of features is {len(finest)} there"
    report = _load(parts, state, path, "decoder", cure)
    for part in parts.values() if freeze else ():
        freeze_module(part)
    return report


def encoder_parts(network: nn.Module) -> list[nn.Module]:
    """Return the blocks of the encoder inside a network, finest first.

    Raises:
        InputError: it has none that is known.

    Examples:
        >>> from scripts.networks import Encoder
        >>> len(encoder_parts(Encoder(features=(2, 2, 2, 2, 2))))
        5
    """
    return list(_encoder_parts(network)[1].values())


def decoder_parts(network: nn.Module) -> list[nn.Module]:
    """Return the blocks of the decoder on the encoder inside a network, coarsest first.

    Raises:
        InputError: it has none that is known.

    Examples:
        >>> from monai.networks.nets import BasicUNet
        >>> len(decoder_parts(BasicUNet(features=(2, 2, 2, 2, 2, 2))))
        4
    """
    host = _encoder_host(network)
    children = dict(host.named_children())
    if not all(name in children for name in STEPS_UP):
        raise InputError(f"{type(host).__name__}: has no decoder of blocks upcat_4 .. upcat_1; use MONAI's BasicUNet")
    return [children[name] for name in STEPS_UP]


def freeze_encoder(network: nn.Module) -> None:
    """Freeze the encoder inside a network, see `scripts.networks.freeze`; the rest stays trainable.

    Examples:
        >>> from scripts.networks import Encoder
        >>> encoder = Encoder(features=(2, 2, 2, 2, 2))
        >>> freeze_encoder(encoder)
        >>> any(parameter.requires_grad for parameter in encoder.parameters())
        False
    """
    host, parts = _encoder_parts(network)
    whole = len(parts) == len(list(host.children()))
    for module in (host,) if whole else parts.values():
        freeze_module(module)


def _encoder_host(network: nn.Module) -> nn.Module:
    """Return the module whose children are the encoder's blocks."""
    children = dict(network.named_children())
    if "vit" in children or all(name in children for name in BLOCKS):
        return network
    for name in (*WRAPPERS, "encoder"):
        if name in children:
            return _encoder_host(children[name])
    raise InputError(
        f"{type(network).__name__}: has no encoder of blocks conv_0, down_1 .. down_4; use Encoder, "
        "ViTEncoder or MONAI's BasicUNet"
    )


def _encoder_parts(network: nn.Module) -> tuple[nn.Module, dict[str, nn.Module]]:
    """Return the module whose children are the encoder's blocks, and these by name."""
    host = _encoder_host(network)
    return host, {name: part for name, part in host.named_children() if name in (*BLOCKS, "vit")}


def _load(
    parts: Mapping[str, nn.Module], state: Mapping[str, Tensor], path: Path, part: str, width_cure: str
) -> LoadReport:
    """Load tensors into modules by the names of these, strictly; log and return what was loaded."""
    target = {f"{name}.{key}": value for name, module in parts.items() for key, value in module.state_dict().items()}
    _check_fit(state, target, path, width_cure)
    for name, module in parts.items():
        prefix = f"{name}."
        module.load_state_dict({key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)})
    report = LoadReport(path, hashlib.sha256(path.read_bytes()).hexdigest(), len(state), len(target), part)
    logger.info("%s", report)
    return report


def _check_fit(state: Mapping[str, Tensor], target: Mapping[str, Tensor], path: Path, width_cure: str) -> None:
    for key, value in target.items():
        if key not in state:
            raise InputError(
                f"{path}: lacks the tensor {key} of shape {tuple(value.shape)}; take weights of the same architecture"
            )
        if state[key].shape != value.shape:
            raise InputError(
                f"{path}: {key} is {tuple(state[key].shape)} there but {tuple(value.shape)} in this network; "
                f"{width_cure}"
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
