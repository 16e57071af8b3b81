"""Sources, the folder as a whole, and what the config and the model card say."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from scripts.__main__ import main
from scripts.errors import InputError
from scripts.export import FORMATS, export_encoder, source
from scripts.networks import Encoder, ViTEncoder

WIDTHS = (3, 4, 5, 6, 7)
ROOT = Path(__file__).resolve().parents[2]


def unet(in_channels: int = 1) -> BasicUNet:
    torch.manual_seed(1)
    return BasicUNet(in_channels=in_channels, features=(*WIDTHS, 2), act="GELU", norm="instance", dropout=0.1)


def blocks(network: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in network.state_dict().items() if k.startswith(("conv_0.", "down_"))}


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


SOURCES: dict[str, Callable[[BasicUNet], Any]] = {
    "published unet": lambda net: {"config": {"lr": 1e-3}, "state_dict": net.state_dict()},
    "published encoder": lambda net: {"encoder": {f"_orig_mod.{k}": v for k, v in blocks(net).items()}, "epoch": 3},
    "task": lambda net: net.state_dict(),
    "bare encoder": blocks,
}


@pytest.mark.parametrize("form", SOURCES)
@pytest.mark.parametrize("in_channels", [1, 2])
def test_every_form_of_weights_is_exported(form: str, in_channels: int, tmp_path: Path) -> None:
    network = unet(in_channels)
    torch.save(SOURCES[form](network), tmp_path / "weights.pth")
    export_encoder("pt", tmp_path / "out", tmp_path / "weights.pth")
    state = torch.load(tmp_path / "out" / "model.pt", weights_only=True)
    assert state.keys() == blocks(network).keys()
    assert all(torch.equal(state[key], value) for key, value in blocks(network).items())
    config = config_of(tmp_path / "out")
    assert (config["in_channels"], config["features"], config["feature_channels"]) == (in_channels, [*WIDTHS], 7)


def test_an_export_is_a_source_again(pretrained: Path, tmp_path: Path) -> None:
    export_encoder("safetensors", tmp_path / "one", pretrained)
    export_encoder("pt", tmp_path / "two", tmp_path / "one" / "model.safetensors")
    state = torch.load(pretrained / "models" / "model.pt", weights_only=True)
    again = torch.load(tmp_path / "two" / "model.pt", weights_only=True)
    assert all(torch.equal(value, state[f"encoder.{key}"]) for key, value in again.items())


def test_config_tells_the_training_and_no_path(pretrained: Path, tmp_path: Path) -> None:
    export_encoder("pt", tmp_path / "out", pretrained)
    config = config_of(tmp_path / "out")
    training = config["training"]
    expected = {"kind": "pretraining", "variant": "seqinv", "cohort": "embedded", "simulated": True, "epochs": 4}
    assert {key: training[key] for key in expected} == expected
    assert (training["subjects_in_cohort"], training["steps"], training["settings"]["seed"]) == (20, 80, 3)
    assert training["settings"]["protocols"] == "protocols.json"
    assert (config["input"]["patch_size"], config["input"]["voxel_spacing_mm"]) == (48, 2.0)
    assert config["evaluation"] == {"retrieval_top1 (pooled)": "0.750 (untrained 0.250, chance 0.010)"}
    assert str(tmp_path) not in json.dumps(config)


def test_card_says_plainly_that_the_data_are_simulated(pretrained: Path, tmp_path: Path) -> None:
    export_encoder("pt", tmp_path / "out", pretrained)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    _, front, text = card.split("---\n", 2)
    about = yaml.safe_load(front)
    assert (about["license"], about["library_name"]) == ("apache-2.0", "pytorch")
    assert {"mri", "self-supervised-learning"} <= set(about["tags"])
    for words in ("Simulated data only", "not for clinical use", "| epochs, steps | 4, 80 |", "0.750 (untrained 0.250"):
        assert words in text
    for author in yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["preferred-citation"]["authors"]:
        assert f"{author['family-names']}, {author['given-names']}" in text
    assert (tmp_path / "out" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_card_of_weights_without_a_record_claims_nothing(tmp_path: Path) -> None:
    torch.save({"config": None, "state_dict": unet().state_dict()}, tmp_path / "weights.pth")
    export_encoder("pt", tmp_path / "out", tmp_path / "weights.pth")
    config, card = config_of(tmp_path / "out"), (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    training = config["training"]
    assert (training["kind"], training["variant"], training["simulated"]) == ("unknown", "unknown", None)
    assert (config["input"]["patch_size"], config["input"]["voxel_spacing_mm"]) == (None, None)
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "unknown"
    assert "Unknown: no record of the training came with the weights" in card
    assert "That of the weights is their makers' to say" in card
    assert "None" not in card


@pytest.mark.parametrize(
    ("settings", "simulated", "told"),
    [
        ({"frozen": True, "encoder": "96cc949ca164", "variant": "base"}, None, "was frozen, so it is that one"),
        ({"frozen": False, "encoder": "96cc949ca164", "variant": "base"}, None, "The encoder was trained along"),
        ({"frozen": True, "encoder": "", "variant": "random"}, True, "the encoder in it is frozen and untrained"),
        ({"frozen": False, "encoder": "", "variant": "scratch"}, True, "without a pretrained encoder."),
    ],
    ids=["frozen", "trained along", "random", "scratch"],
)
def test_card_of_a_tasks_weights_says_whose_encoder_it_is(
    settings: dict[str, Any], simulated: bool | None, told: str, tmp_path: Path
) -> None:
    state = unet().state_dict()
    task = {"modality": "T1w", "cohort": "embedded", "spacing": 1.0, "training_subjects": "IXI002-Guys-0704"}
    torch.save(state, tmp_path / "model.pt")
    saved = {"model": state, "epoch": 2, "iteration": 6, "settings": {**task, **settings}}
    torch.save(saved, tmp_path / "checkpoint.pt")
    export_encoder("pt", tmp_path / "out", tmp_path / "model.pt")
    card, config = (tmp_path / "out" / "README.md").read_text(encoding="utf-8"), config_of(tmp_path / "out")
    assert told in card
    assert ("begins with `96cc949ca164`" in card) == bool(settings["encoder"])
    # of a pretrained encoder the task does not know what it has seen
    assert config["training"]["simulated"] is simulated
    assert ("never seen the scan of a person" in card) == bool(simulated)
    assert "IXI002" not in card + json.dumps(config)


def test_failed_export_leaves_nothing_and_keeps_the_earlier_one(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "exports" / "encoder"
    export_encoder("pt", out, pretrained)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def skewed(path: Path, config: Any) -> Callable[[Tensor], Tensor]:
        read = FORMATS["pt"].read(path, config)
        return lambda image: read(image) + 1e-3

    monkeypatch.setitem(FORMATS, "safetensors", dataclasses.replace(FORMATS["safetensors"], read=skewed))
    message = r"format safetensors: .* differ by 1\.0e-03 from the network's"
    for place in (out, tmp_path / "exports" / "new"):
        with pytest.raises(InputError, match=message):
            export_encoder("pt,safetensors", place, pretrained)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in out.parent.iterdir()] == ["encoder"]


def test_wrong_shape_and_nan_count_as_different(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in (lambda image: image, lambda image: Encoder(1, WIDTHS).eval()(image) * float("nan")):
        changed = dataclasses.replace(FORMATS["pt"], read=lambda path, config, wrong=wrong: wrong, tolerance=1e9)
        monkeypatch.setitem(FORMATS, "pt", changed)
        with pytest.raises(InputError, match="differ by inf"):
            export_encoder("pt", tmp_path / "out", pretrained)


def test_an_earlier_export_is_replaced_as_a_whole(pretrained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export_encoder("pt,safetensors", out, pretrained)
    export_encoder(("safetensors",), out, pretrained)
    assert sorted(path.name for path in out.iterdir()) == ["LICENSE", "README.md", "config.json", "model.safetensors"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert oct((out / "model.safetensors").stat().st_mode)[-3:] == "644"


@pytest.mark.parametrize("own", ["notes.txt", "config.json"])
def test_refuses_a_folder_of_other_things(own: str, pretrained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / own).write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(InputError, match="out holds other things than an exported encoder"):
        export_encoder("pt", out, pretrained)
    assert [path.name for path in out.iterdir()] == [own]
    with pytest.raises(InputError, match=rf"{own} is no folder"):
        export_encoder("pt", out / own, pretrained)
    with pytest.raises(InputError, match="cannot write below"):
        export_encoder("pt", out / own / "deeper", pretrained)


def test_refuses_what_holds_no_encoder_of_ours(pretrained: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"

    def refused(content: Any, message: str) -> None:
        torch.save(content, path)
        with pytest.raises(InputError, match=message) as caught:
            export_encoder("pt", tmp_path / "out", path)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()

    state = blocks(unet())
    refused({k: v for k, v in state.items() if "down_4" not in k}, r"weights\.pth: lacks the tensor down_4\.convs")
    refused({k: v[..., 0] if v.ndim == 5 else v for k, v in state.items()}, "not of a 3D convolution")
    refused({**state, "conv_0.conv_0.conv.bias": torch.full((3,), torch.nan)}, "holds NaN or infinity")
    refused({"layer1.weight": torch.ones(3)}, "holds no encoder")
    vit = ViTEncoder(32, 16, hidden_size=12, mlp_dim=8, num_layers=1, num_heads=2)
    refused(vit.state_dict(), "holds a ViT, .* ckpt_export")
    path.write_bytes(b"PK damaged")
    with pytest.raises(InputError, match="no weights file of torch, or damaged"):
        export_encoder("pt", tmp_path / "out", path)
    with pytest.raises(InputError, match="none holds no weights for pretrain_seqinv: it does not exist"):
        export_encoder("pt", tmp_path / "out", tmp_path / "none")
    os.renames(pretrained, tmp_path / "grid" / "runs" / "pretrain-base-s0-1a2b")
    with pytest.raises(InputError, match=r"many runs: give the folder of one, such as .*/runs/pretrain-base-s0-1a2b"):
        export_encoder("pt", tmp_path / "out", tmp_path / "grid")


def test_without_weights_it_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(source, "BUNDLES", tmp_path / "bundles")
    monkeypatch.setattr(sys, "argv", ["scripts", "export", "encoder", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert str(ended.value) == (
        "error: bundles/pretrain_seqinv/models/model.pt: no such weights file; make one with "
        "`python -m monai.bundle run --config_file bundles/pretrain_seqinv/configs/train.json`, or name another by "
        "--weights"
    )
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", ["pt,tensorflow", "", ",", ("onyx",)], ids=["unknown", "empty", "comma", "tuple"])
def test_refuses_unknown_formats(names: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is unknown: choose some of safetensors, torchscript, onnx, pt"):
        export_encoder(names, tmp_path / "out")


def test_missing_packages_are_told_with_the_command(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(FORMATS["onnx"], packages=("no_such_package",)))
    with pytest.raises(InputError, match=r'format onnx needs no_such_package: type `pip install -e "\.\[export\]"`'):
        export_encoder("onnx,pt", tmp_path / "out", pretrained)
    assert not (tmp_path / "out").exists()
