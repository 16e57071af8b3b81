"""Recomputed activations: the same results and gradients, and less memory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from scripts.errors import InputError
from scripts.networks import Decoder, Encoder, MapHead, PretrainNet, PretrainUNet, Projector, Reconstructor
from scripts.networks.recompute import recompute

WIDTHS = (2, 3, 4, 5, 6)


def contrastive(pooling: str = "mean") -> nn.Module:
    projector = Projector(WIDTHS, pooling=pooling, norm="batch")
    return PretrainNet(Encoder(features=WIDTHS, dropout=0.0), projector, Reconstructor(WIDTHS[-1], (5, 4, 3, 2)))


def maps() -> nn.Module:
    return PretrainUNet(Encoder(features=WIDTHS, dropout=0.0), Decoder(WIDTHS, 3), MapHead(3))


NETWORKS = pytest.mark.parametrize(
    "make", [contrastive, lambda: contrastive("levels"), maps], ids=["contrastive", "pooled levels", "maps"]
)


def gradients(network: nn.Module, x: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    found: dict[str, Any] = network(x)
    sum((n + 1) * value.square().mean() for n, value in enumerate(found.values())).backward()
    return found, {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


@NETWORKS
def test_results_and_gradients_are_those_of_the_plain_network(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    plain = make().double()
    other = recompute(copy.deepcopy(plain))
    assert list(other.state_dict()) == list(plain.state_dict())
    x = torch.randn(3, 1, 32, 32, 32, dtype=torch.float64)
    found, slopes = gradients(plain, x)
    again, again_slopes = gradients(other, x)
    for name, value in found.items():
        torch.testing.assert_close(again[name], value)
    assert again_slopes.keys() == slopes.keys()
    for name, value in slopes.items():
        torch.testing.assert_close(again_slopes[name], value)


def kept(network: nn.Module, x: torch.Tensor) -> int:
    """Bytes that autograd holds after the forward pass, other than the parameters'."""
    held: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter):
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found = network(x)
    assert found
    return sum(held.values())


def test_a_forward_pass_keeps_a_small_part_of_what_the_plain_one_does() -> None:
    plain, x = contrastive(), torch.randn(4, 1, 32, 32, 32)
    before = kept(plain, x)
    assert kept(recompute(plain), x) < before / 10


def test_nothing_is_computed_twice_where_no_gradient_is_wanted() -> None:
    network = recompute(contrastive())
    calls = []
    network.encoder.conv_0.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr]
    with torch.no_grad():
        network.eval()(torch.randn(4, 1, 32, 32, 32))
    assert len(calls) == 1


def test_a_network_without_such_parts_is_refused() -> None:
    with pytest.raises(InputError, match="recompute: Linear has no encoder, decoder, reconstructor: leave it out"):
        recompute(nn.Linear(1, 1))
