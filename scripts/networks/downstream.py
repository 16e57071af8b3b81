"""A task's network around a pretrained encoder."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from scripts.errors import InputError
from scripts.networks.encoder_weights import decoder_parts, encoder_parts, freeze_encoder, load_decoder, load_encoder
from scripts.switches import is_given, is_on
from scripts.weights.archive import check_numbers
from scripts.weights.encoder_state import read_network_state

__all__ = ["TaskNetwork", "load_model", "task_network"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskNetwork:
    """A network and where its encoder came from.

    Attributes:
        network: the network, its encoder loaded and frozen as told.
        variant: base, seqaug or seqinv; ``scratch`` where all of it is trained; ``random`` where its encoder is
            left as it was drawn; ``unknown`` where the encoder's own training left no checkpoint beside it.
        encoder_sha: SHA-256 of the encoder's file, empty where there is none.
        source: what was loaded, in words.
        frozen: whether the encoder is.
        start_sha: SHA-256 of the weights of the whole network that training starts from, empty without.
        decoder: what was loaded into its decoder and whether that trains, in words, empty without.
        staged: whether what came pretrained trains later than the rest, see `scripts.networks.stages`.
        pretrained: its parts that came pretrained.
    """

    network: nn.Module
    variant: str
    encoder_sha: str
    source: str
    frozen: bool
    start_sha: str = ""
    decoder: str = ""
    staged: bool = False
    pretrained: tuple[nn.Module, ...] = ()


def task_network(
    network: nn.Module,
    encoder: str = "pretrained",
    encoder_bundle: str | Path = "",
    *,
    freeze: bool | str = True,
    start: str | Path | None = None,
    encoder_part: str = "encoder",
    freeze_decoder: bool = False,
) -> TaskNetwork:
    """Give a network its encoder: pretrained weights, strictly and frozen by default, or none.

    Args:
        network: MONAI's BasicUNet, or another network that `load_encoder` knows.
        encoder: ``pretrained``; ``none`` to train all from scratch; ``random`` to leave the untrained encoder as it
            is and train the decoder on it, as a measure of what pretraining brings.
        encoder_bundle: bundle folder of the pretraining, or a weights file.
        freeze: False lets the encoder train along; ``staged`` lets what came pretrained train after the rest.
        start: weights of the whole network to go on from; the encoder then replaces theirs.
        encoder_part: which part of pretrained weights is taken: ``encoder``, or ``decoder`` for the encoder and the
            decoder behind it, so that the last convolution alone is new. Without pretrained weights, it says nothing.
        freeze_decoder: True also freezes a decoder that was taken.

    Raises:
        InputError: no such file, or it does not hold exactly this encoder, decoder or network.

    Examples:
        >>> from scripts.networks import Encoder
        >>> made = task_network(Encoder(features=(2, 2, 2, 2, 2)), encoder="random")
        >>> made.variant, made.frozen, any(parameter.requires_grad for parameter in made.network.parameters())
        ('random', True, False)
    """
    if encoder_part not in ("encoder", "decoder"):
        raise InputError(f"encoder_part={encoder_part!r} is unknown: choose encoder, or decoder for both")
    freeze_decoder = is_on(freeze_decoder, "freeze_decoder")
    staged = freeze == "staged"
    if staged and (freeze_decoder or encoder != "pretrained"):
        raise InputError(
            "freeze=staged is for pretrained weights that all train later: give those, freeze_decoder=false"
        )
    if freeze_decoder and encoder_part == "encoder":
        raise InputError(
            "freeze_decoder: an untrained decoder would stay so; type --encoder_part decoder, or let it train"
        )
    digest = ""
    if is_given(start):
        load_model(network, str(start), "python -m monai.bundle run --config_file configs/train.json")
        digest = hashlib.sha256(Path(str(start)).read_bytes()).hexdigest()
    made = _with_encoder(network, encoder, encoder_bundle, freeze=False if staged else freeze)
    made = replace(made, start_sha=digest, staged=staged)
    if digest and not is_given(encoder):
        made = replace(made, source=f"that of {start}, from which the whole network goes on")
    if encoder_part == "encoder" or not made.encoder_sha:
        return made
    report = load_decoder(network, encoder_bundle, freeze=freeze_decoder)
    state = "frozen" if freeze_decoder else "trained later" if staged else "trained along"
    words = f"{report.n_loaded} of {report.n_total} tensors from {report.path}, {state}"
    return replace(made, decoder=words, pretrained=(*made.pretrained, *decoder_parts(network)))


def _with_encoder(network: nn.Module, encoder: str, encoder_bundle: str | Path, *, freeze: bool | str) -> TaskNetwork:
    if is_given(encoder) and encoder not in ("pretrained", "random"):
        raise InputError(
            f"encoder={encoder!r} is unknown: choose pretrained, random or none (--encoder_bundle names its file)"
        )
    if not is_given(encoder):
        return TaskNetwork(network, "scratch", "", "none pretrained: trained from scratch", frozen=False)
    freeze = is_on(freeze, "freeze")
    if encoder == "random":
        if not freeze:
            raise InputError("encoder=random is the untrained encoder left as it is: to train it, type --encoder none")
        freeze_encoder(network)
        return TaskNetwork(network, "random", "", "untrained, as a measure of what pretraining brings", frozen=True)
    report = load_encoder(network, encoder_bundle, freeze=freeze)
    source = f"{report.n_loaded} of {report.n_total} encoder tensors from {report.path}"
    parts = tuple(encoder_parts(network))
    return TaskNetwork(network, _variant(report.path), report.sha256, source, frozen=freeze, pretrained=parts)


def load_model(network: nn.Module, path: str | Path, train_command: str) -> nn.Module:
    """Load the weights of a whole network, strictly, and return it in evaluation mode.

    Args:
        network: the network.
        path: such as the ``model.pt`` that training writes, see `read_network_state`.
        train_command: makes the file; named where there is none.

    Raises:
        InputError: no such file, not a weights file, damaged, with NaN or Inf, or of another network.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(nn.Linear(2, 1).state_dict(), Path(folder) / "model.pt")
        ...     load_model(nn.Linear(2, 1), Path(folder) / "model.pt", "python train.py").training
        False
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file; make one with `{train_command}` or name another")
    state = read_network_state(path)
    check_numbers(path, state)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[-1].strip().rstrip(".")[:160]
        cure = "set --features to its widths" if "size mismatch" in reason else "take the model.pt of this very bundle"
        raise InputError(f"{path} does not hold this network ({reason}): {cure}") from error
    logger.info("Loaded %d tensors from %s", len(state), path)
    return network.eval()


def _variant(path: Path) -> str:
    """Return the pretraining's mode: from the checkpoint beside its weights, or as a packed bundle's encoder tells."""
    checkpoint = path.with_name("checkpoint.pt")
    try:
        if checkpoint.is_file():
            return str(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["settings"]["mode"])
        return str(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["variant"])
    except Exception:
        return "unknown"
