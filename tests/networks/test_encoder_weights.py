from __future__ import annotations

import copy
import hashlib
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet
from safetensors.torch import save_file
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.networks import Encoder, PretrainNet, ViTEncoder, freeze, load_encoder
from scripts.weights.encoder_state import read_encoder_state

WIDTHS = (2, 3, 4, 5, 6)
State = dict[str, Tensor]


def prefixed(state: State, prefix: str) -> State:
    return {prefix + key: value for key, value in state.items()}


FORMS: dict[str, Callable[[State, State], Any]] = {
    "model.pt": lambda net, bare: net,
    "checkpoint.pt": lambda net, bare: {"model": net, "optimizer": {"state": {}}, "epoch": 3},
    "compiled": lambda net, bare: prefixed(net, "_orig_mod."),
    "ddp": lambda net, bare: {"model": prefixed(net, "module.")},
    "compiled in ddp": lambda net, bare: prefixed(net, "module._orig_mod."),
    "bare": lambda net, bare: bare,
    "bare unet": lambda net, bare: bare | {"upcat_4.x": torch.ones(1), "final_conv.bias": torch.ones(2)},
    "published unet": lambda net, bare: {"config": {"lr": 1e-3}, "state_dict": prefixed(bare, "_orig_mod.")},
    "published net": lambda net, bare: {"config": None, "state_dict": net},
    "published encoder": lambda net, bare: {"encoder": bare},
    "published compiled encoder": lambda net, bare: {"encoder": prefixed(bare, "_orig_mod."), "epoch": 3},
    "compiled inside": lambda net, bare: prefixed(prefixed(bare, "_orig_mod."), "encoder."),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_encoder(form: str, tmp_path: Path, make_net: Callable[..., PretrainNet]) -> None:
    net = make_net("gem")
    path = tmp_path / "weights.pt"
    torch.save(FORMS[form](net.state_dict(), net.encoder.state_dict()), path)
    state = read_encoder_state(path)
    assert state.keys() == net.encoder.state_dict().keys()
    other = Encoder(features=WIDTHS)
    report = load_encoder(other, path)
    for key, value in net.encoder.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key
    assert (report.n_loaded, report.n_total) == (20, 20)


def test_report_names_file_and_hash(
    tmp_path: Path, make_net: Callable[..., PretrainNet], caplog: pytest.LogCaptureFixture
) -> None:
    bundle = tmp_path / "bundle"
    path = bundle / "models" / "model.pt"
    path.parent.mkdir(parents=True)
    torch.save(make_net().state_dict(), path)
    with caplog.at_level(logging.INFO):
        report = load_encoder(Encoder(features=WIDTHS), bundle)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (report.path, report.sha256) == (path, digest)
    assert f"20 of 20 encoder tensors from {path} (SHA-256 {digest})" in caplog.text


def test_safetensors_are_read_by_the_same_names(tmp_path: Path, make_net: Callable[..., PretrainNet]) -> None:
    net = make_net()
    path = tmp_path / "model.safetensors"
    for state in (net.state_dict(), net.encoder.state_dict()):
        save_file(state, path)
        other = Encoder(features=WIDTHS)
        assert load_encoder(other, path).n_loaded == 20
        assert all(torch.equal(other.state_dict()[key], value) for key, value in net.encoder.state_dict().items())
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"model\.safetensors: is no safetensors file, or damaged"):
        read_encoder_state(path)


def test_vit_round_trip(tmp_path: Path) -> None:
    vit, other = (ViTEncoder(32, 16, hidden_size=12, mlp_dim=8, num_layers=1, num_heads=2) for _ in range(2))
    torch.save(prefixed(vit.state_dict(), "encoder."), tmp_path / "vit.pt")
    load_encoder(other, tmp_path / "vit.pt")
    x = torch.randn(1, 1, 32, 32, 32)
    assert torch.equal(other.eval()(x), vit.eval()(x))


def test_frozen_unet_keeps_encoder_and_trains_decoder(tmp_path: Path, make_net: Callable[..., PretrainNet]) -> None:
    net = make_net()
    torch.save(net.state_dict(), tmp_path / "model.pt")
    unet = BasicUNet(features=(*WIDTHS, 2), out_channels=1, act="GELU", norm="instance", dropout=0.2)
    load_encoder(unet, tmp_path / "model.pt", freeze=True)
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    encoder = {key for key in before if key in net.encoder.state_dict()}
    optimiser = torch.optim.AdamW((p for p in unet.parameters() if p.requires_grad), lr=0.1, weight_decay=0.1)
    x = torch.randn(1, 1, 32, 32, 32)
    for _ in range(2):
        unet.train()
        optimiser.zero_grad()
        unet(x).square().mean().backward()
        optimiser.step()
    after = unet.state_dict()
    assert {key for key in before if torch.equal(before[key], after[key])} >= encoder
    assert not torch.equal(before["final_conv.weight"], after["final_conv.weight"])
    assert unet.training
    assert unet.upcat_1.training
    assert not any(part.training for block in (unet.conv_0, unet.down_4) for part in block.modules())
    levels = [unet.conv_0(x), unet.conv_0(x)]
    assert torch.equal(*levels)  # no dropout left in it


@pytest.mark.parametrize(
    "again",
    [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))],
    ids=["same", "copy", "pickle"],
)
def test_freeze_survives_train(again: Callable[[nn.Module], nn.Module]) -> None:
    parent = again(nn.Sequential(freeze(Encoder(features=WIDTHS, dropout=0.5)), nn.Dropout(0.5)))
    parent.train()
    assert parent[1].training
    assert not any(part.training for part in parent[0].modules())
    assert not any(p.requires_grad for p in parent.parameters())
    parent[0].down_1.train()
    assert not parent[0].down_1.training
    x = torch.randn(1, 1, 32, 32, 32)
    assert torch.equal(parent[0](x), parent[0](x))


def test_frozen_copy_is_its_own_and_scripts() -> None:
    original = freeze(Encoder(features=WIDTHS))
    twin = copy.deepcopy(original)
    assert twin.train() is twin
    x = torch.randn(1, 1, 32, 32, 32)
    assert torch.equal(torch.jit.script(original)(x), original(x))


def save_and_load(content: Any, path: Path) -> None:
    torch.save(content, path)
    load_encoder(Encoder(features=WIDTHS), path)


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pt: no such weights file; make one with `python -m monai\.bundle run"):
        load_encoder(Encoder(features=WIDTHS), tmp_path / "none.pt")
    with pytest.raises(InputError, match=r"models/model\.pt: no such weights file"):
        load_encoder(Encoder(features=WIDTHS), tmp_path)


def test_refuses_another_width_and_leaves_the_network_alone(tmp_path: Path) -> None:
    target = Encoder(features=(2, 3, 4, 5, 7))
    before = copy.deepcopy(target.state_dict())
    torch.save(Encoder(features=WIDTHS).state_dict(), tmp_path / "w.pt")
    message = (
        r"w\.pt: down_4\.convs\.conv_0\.conv\.weight is \(6, 5, 3, 3, 3\) there but "
        r"\(7, 5, 3, 3, 3\) in this network; set features to the file's \[2, 3, 4, 5, 6\]$"
    )
    with pytest.raises(InputError, match=message):
        load_encoder(target, tmp_path / "w.pt")
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_refuses_what_is_not_exactly_this_encoder(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    state = Encoder(features=WIDTHS).state_dict()
    key = "down_2.convs.conv_1.conv.bias"
    with pytest.raises(InputError, match=rf"w\.pt: lacks the tensor {key} of shape \(4,\)"):
        save_and_load({k: v for k, v in state.items() if k != key}, path)
    with pytest.raises(InputError, match=r"w\.pt: holds the tensor down_5\.bias of shape \(3,\)"):
        save_and_load({**state, "down_5.bias": torch.ones(3)}, path)
    with pytest.raises(InputError, match=rf"w\.pt: {key} holds NaN or infinity"):
        save_and_load({**state, key: torch.full((4,), torch.nan)}, path)
    with pytest.raises(InputError, match=r"w\.pt: holds no encoder"):
        save_and_load({"layer1.weight": torch.ones(3)}, path)
    with pytest.raises(InputError, match=r"w\.pt: holds no encoder"):
        save_and_load([1, 2], path)
    torch.save(state, path)
    with pytest.raises(InputError, match="Linear: has no encoder of blocks conv_0"):
        load_encoder(nn.Linear(2, 2), path)


def test_refuses_files_that_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    encoder = Encoder(features=WIDTHS)
    with pytest.raises(InputError, match=r"w\.pt: holds more than tensors.*trust its source"):
        save_and_load({"config": Path("x"), "state_dict": encoder.state_dict()}, path)
    torch.save(encoder.state_dict(), path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not weights at all"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"w\.pt: is no weights file of torch, or damaged") as caught:
            read_encoder_state(path)
        assert "\n" not in str(caught.value)
    torch.jit.save(torch.jit.script(encoder), path)
    with pytest.raises(InputError, match=r"w\.pt: is no weights file of torch"):
        read_encoder_state(path)
