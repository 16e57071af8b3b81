from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet
from safetensors.torch import save_file
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.networks import Decoder, Encoder, MapHead, PretrainNet, PretrainUNet
from scripts.networks.downstream import load_model, task_network
from scripts.networks.encoder_weights import load_decoder

WIDTHS = (2, 3, 4, 5, 6)
BLOCKS = ("conv_0", "down_1", "down_2", "down_3", "down_4")


def unet(widths: tuple[int, ...] = WIDTHS) -> BasicUNet:
    return BasicUNet(features=(*widths, 2), out_channels=3, act="GELU", norm="instance", dropout=0.2)


def encoder_state(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items() if key.startswith(BLOCKS)}


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def steps(network: nn.Module, n: int = 3) -> None:
    """Some steps of AdamW as the configs take them."""
    optimiser = torch.optim.AdamW((p for p in network.parameters() if p.requires_grad), lr=0.1, weight_decay=0.1)
    network.train()
    for _ in range(n):
        optimiser.zero_grad()
        network(torch.randn(1, 1, 32, 32, 32)).square().mean().backward()
        optimiser.step()


def leaves(output: Tensor) -> set[int]:
    """Ids of the parameters that the graph of ``output`` ends in."""
    todo, seen, found = [output.grad_fn], set(), set()
    while todo:
        node: Any = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        todo += [following for following, _ in node.next_functions]
    return found


def saved_bytes(network: nn.Module) -> int:
    """What a forward pass keeps for the backward pass, parameters left out."""
    own = {p.data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(torch.randn(1, 1, 32, 32, 32))
    del output
    return sum(kept.values())


@pytest.fixture
def bundle(tmp_path: Path, make_net: Callable[..., PretrainNet]) -> Iterator[Path]:
    """A pretraining bundle that left weights and a checkpoint."""
    folder = tmp_path / "pretrain" / "models"
    folder.mkdir(parents=True)
    net = make_net()
    torch.save(net.state_dict(), folder / "model.pt")
    torch.save({"model": net.state_dict(), "settings": {"mode": "seqinv", "lr": 1e-3}}, folder / "checkpoint.pt")
    return folder.parent


def pretrained(bundle: Path) -> dict[str, Tensor]:
    state = torch.load(bundle / "models" / "model.pt", weights_only=True)
    return {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}


class TestNone:
    @pytest.mark.parametrize("word", ["none", "None", None])
    def test_leaves_the_network_alone(self, word: Any) -> None:
        network = unet()
        before = {key: value.clone() for key, value in network.state_dict().items()}
        made = task_network(network, word, "/no/such/file")
        assert made.network is network
        assert (made.variant, made.encoder_sha, made.frozen) == ("scratch", "", False)
        assert "trained from scratch" in made.source
        assert_equal(before, network.state_dict())
        assert all(p.requires_grad for p in network.parameters())

    def test_what_goes_on_from_other_weights_does_not_say_from_scratch(self, tmp_path: Path) -> None:
        before = unet()
        torch.save(before.state_dict(), tmp_path / "model.pt")
        made = task_network(unet(), "none", start=tmp_path / "model.pt")
        assert made.source == f"that of {tmp_path / 'model.pt'}, from which the whole network goes on"
        assert_equal(before.state_dict(), made.network.state_dict())

    def test_trains_everything(self) -> None:
        network = task_network(unet(), "none").network
        before = {key: value.clone() for key, value in network.state_dict().items()}
        steps(network)
        weights = [key for key in before if key.endswith("conv.weight")]
        assert len(weights) > 10
        assert not any(torch.equal(before[key], network.state_dict()[key]) for key in weights)


class TestRandom:
    def test_the_untrained_encoder_stays_and_the_decoder_trains(self) -> None:
        network = unet()
        drawn = {key: value.clone() for key, value in encoder_state(network).items()}
        made = task_network(network, "random", "/no/such/file")
        assert (made.variant, made.encoder_sha, made.frozen) == ("random", "", True)
        before = {key: value.clone() for key, value in network.state_dict().items() if key.startswith("upcat")}
        steps(network.train())
        assert_equal(encoder_state(network), drawn)
        assert not any(
            torch.equal(value, network.state_dict()[key]) for key, value in before.items() if "weight" in key
        )

    def test_it_cannot_be_trained(self) -> None:
        with pytest.raises(InputError, match="to train it, type --encoder none"):
            task_network(unet(), "random", freeze=False)


class TestFrozen:
    def test_tells_what_it_loaded(self, bundle: Path) -> None:
        made = task_network(unet(), encoder_bundle=bundle)
        path = bundle / "models" / "model.pt"
        assert made.variant == "seqinv"
        assert made.encoder_sha == hashlib.sha256(path.read_bytes()).hexdigest()
        assert made.source == f"20 of 20 encoder tensors from {path}"
        assert made.frozen
        assert_equal(encoder_state(made.network), pretrained(bundle))

    @pytest.mark.parametrize("freeze", [True, "yes"])
    def test_the_encoder_stays_bit_equal_and_the_decoder_trains(self, bundle: Path, freeze: Any) -> None:
        network = task_network(unet(), encoder_bundle=bundle, freeze=freeze).network
        before = {key: value.clone() for key, value in network.state_dict().items()}
        steps(network)
        assert_equal(encoder_state(network), pretrained(bundle))
        decoder = [k for k in before if not k.startswith(BLOCKS) and k.endswith("weight")]
        assert decoder
        assert not any(torch.equal(before[key], network.state_dict()[key]) for key in decoder)
        assert all(p.grad is None for name, p in network.named_parameters() if name.startswith(BLOCKS))

    def test_train_leaves_it_in_evaluation_mode(self, bundle: Path) -> None:
        network = task_network(unet(), encoder_bundle=bundle).network
        for mode in (True, False, True):
            network.train(mode)
            assert not any(part.training for name in BLOCKS for part in network.get_submodule(name).modules())
            assert network.get_submodule("upcat_4").training is mode
        image = torch.randn(1, 1, 32, 32, 32)
        block, decoder = network.get_submodule("conv_0"), network
        assert torch.equal(block(image), block(image))
        assert not torch.equal(decoder(image), decoder(image))  # the decoder's dropout is on

    def test_the_encoder_has_no_graph(self, bundle: Path) -> None:
        network = task_network(unet(), encoder_bundle=bundle).network.train()
        outputs = {}
        for name in BLOCKS:
            network.get_submodule(name).register_forward_hook(
                lambda module, args, output, name=name: outputs.update({name: output})
            )
        result = network(torch.randn(1, 1, 32, 32, 32))
        assert set(outputs) == set(BLOCKS)
        assert all(output.grad_fn is None and not output.requires_grad for output in outputs.values())
        decoder = {id(p) for name, p in network.named_parameters() if not name.startswith(BLOCKS)}
        assert leaves(result) == decoder

    def test_the_encoder_keeps_nothing_for_a_backward_pass(self, bundle: Path) -> None:
        """What is kept is less by what the encoder alone keeps, but for its outputs, which the decoder needs."""
        frozen = task_network(unet(), encoder_bundle=bundle).network.train()
        loose = task_network(unet(), encoder_bundle=bundle, freeze=False).network.train()
        assert saved_bytes(frozen.get_submodule("conv_0")) == 0
        alone = saved_bytes(loose.get_submodule("conv_0"))
        assert alone > 4 * 2 * 32**3 * 4  # several times its 2 channels of 32^3 numbers of 4 bytes
        assert saved_bytes(frozen) < saved_bytes(loose) - 0.8 * alone


class TestLoose:
    @pytest.mark.parametrize("freeze", [False, "no"])
    def test_the_encoder_trains_along_from_where_pretraining_ended(self, bundle: Path, freeze: Any) -> None:
        made = task_network(unet(), encoder_bundle=bundle, freeze=freeze)
        assert not made.frozen
        assert made.variant == "seqinv"
        assert_equal(encoder_state(made.network), pretrained(bundle))
        assert leaves(made.network(torch.randn(1, 1, 32, 32, 32))) == {id(p) for p in made.network.parameters()}
        steps(made.network)
        after, before = encoder_state(made.network), pretrained(bundle)
        assert not any(torch.equal(after[key], before[key]) for key in before if key.endswith("conv.weight"))


class TestDecoder:
    """A task that starts from the decoder of a pretraining too."""

    @pytest.fixture
    def with_decoder(self, tmp_path: Path) -> Path:
        net = PretrainUNet(Encoder(features=WIDTHS), Decoder(WIDTHS, 2), MapHead(2))
        torch.save(net.state_dict(), tmp_path / "model.pt")
        return tmp_path / "model.pt"

    @pytest.mark.parametrize("form", ["model.pt", "checkpoint", "compiled", "unet"])
    def test_both_are_loaded_and_the_last_convolution_is_new(
        self, with_decoder: Path, form: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        state = torch.load(with_decoder, weights_only=True)
        parts = {key: value for key, value in state.items() if key.startswith(("encoder.", "decoder."))}
        bare = {key.split(".", 1)[1]: value for key, value in parts.items()}
        encoder = {key: value for key, value in bare.items() if key.startswith(BLOCKS)}
        forms: dict[str, Any] = {
            "model.pt": state,
            "checkpoint": {"model": state, "encoder": encoder, "epoch": 3},
            "compiled": {f"_orig_mod.{key}": value for key, value in state.items()},
            "unet": unet().state_dict() | bare,
        }
        torch.save(forms[form], with_decoder)
        network = unet()
        last = {key: value.clone() for key, value in network.final_conv.state_dict().items()}
        with caplog.at_level(logging.INFO):
            made = task_network(network, encoder_bundle=with_decoder, encoder_part="decoder")
        assert_equal({key: network.state_dict()[key] for key in bare}, bare)
        assert_equal(dict(network.final_conv.state_dict()), last)
        assert made.source == f"20 of 20 encoder tensors from {with_decoder}"
        assert made.decoder == f"24 of 24 tensors from {with_decoder}, trained along"
        assert f"24 of 24 decoder tensors from {with_decoder} (SHA-256 {made.encoder_sha})" in caplog.text

    @pytest.mark.parametrize(
        ("options", "trained"),
        [
            ({}, {"upcat_4", "upcat_3", "upcat_2", "upcat_1", "final_conv"}),
            ({"freeze_decoder": True}, {"final_conv"}),
            ({"freeze": False}, {*BLOCKS, "upcat_4", "upcat_3", "upcat_2", "upcat_1", "final_conv"}),
        ],
        ids=["frozen encoder", "frozen decoder", "all"],
    )
    def test_what_is_not_frozen_trains(self, with_decoder: Path, options: dict[str, Any], trained: set[str]) -> None:
        network = task_network(unet(), encoder_bundle=with_decoder, encoder_part="decoder", **options).network
        before = {key: value.clone() for key, value in network.state_dict().items()}
        steps(network.train())
        changed = {
            key.split(".")[0] for key, value in network.state_dict().items() if not torch.equal(value, before[key])
        }
        assert changed == trained

    @pytest.mark.parametrize("encoder", ["none", "random"])
    def test_it_says_nothing_without_pretrained_weights(self, encoder: str) -> None:
        assert task_network(unet(), encoder, "/no/such/file", encoder_part="decoder").encoder_sha == ""

    def test_weights_without_a_decoder_are_told(self, bundle: Path) -> None:
        with pytest.raises(
            InputError, match=r"model\.pt: holds no decoder .* maps\.json, or start from the encoder alone"
        ):
            task_network(unet(), encoder_bundle=bundle, encoder_part="decoder")

    def test_other_widths_and_words_are_refused(self, with_decoder: Path) -> None:
        wider = BasicUNet(features=(*WIDTHS, 5), out_channels=3, act="GELU", norm="instance")
        with pytest.raises(InputError, match="the last of features is 2 there"):
            task_network(wider, encoder_bundle=with_decoder, encoder_part="decoder")
        with pytest.raises(InputError, match="encoder_part='all' is unknown: choose encoder, or decoder for both"):
            task_network(unet(), encoder_bundle=with_decoder, encoder_part="all")
        with pytest.raises(InputError, match="freeze_decoder: an untrained decoder would stay so"):
            task_network(unet(), encoder_bundle=with_decoder, freeze_decoder=True)
        with pytest.raises(InputError, match="Encoder: has no decoder of blocks"):
            load_decoder(Encoder(features=WIDTHS), with_decoder)


class TestVariant:
    @pytest.mark.parametrize("mode", ["base", "seqaug", "seqinv"])
    def test_is_the_mode_of_the_checkpoint_beside(self, bundle: Path, mode: str) -> None:
        torch.save({"settings": {"mode": mode}}, bundle / "models" / "checkpoint.pt")
        assert task_network(unet(), encoder_bundle=bundle / "models" / "model.pt").variant == mode

    @pytest.mark.parametrize("content", [None, b"damaged", {"epoch": 3}, {"settings": {"lr": 1.0}}, [1]], ids=str)
    def test_is_unknown_without_one(self, bundle: Path, content: Any) -> None:
        path = bundle / "models" / "checkpoint.pt"
        path.unlink()
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            torch.save(content, path)
        assert task_network(unet(), encoder_bundle=bundle).variant == "unknown"


class TestRefused:
    def test_another_width(self, bundle: Path) -> None:
        with pytest.raises(InputError, match=r"model\.pt: down_4\.\S* is \(6, .*set features to the file's \[2, 3, 4"):
            task_network(unet((2, 3, 4, 5, 7)), encoder_bundle=bundle)

    def test_missing_keys(self, bundle: Path) -> None:
        path = bundle / "models" / "model.pt"
        state = torch.load(path, weights_only=True)
        key = "down_2.convs.conv_1.conv.bias"
        torch.save({name: value for name, value in state.items() if name != f"encoder.{key}"}, path)
        network = unet()
        before = encoder_state(network)
        with pytest.raises(InputError, match=rf"model\.pt: lacks the tensor {key}"):
            task_network(network, encoder_bundle=bundle)
        assert_equal(encoder_state(network), before)
        assert all(p.requires_grad for p in network.parameters())

    def test_a_missing_file_with_the_command_that_makes_it(self, tmp_path: Path) -> None:
        command = (
            r"make one with `python -m monai\.bundle run --config_file bundles/pretrain_seqinv/configs/train\.json`"
        )
        for given in (tmp_path, tmp_path / "none.pt"):
            with pytest.raises(InputError, match=command):
                task_network(unet(), encoder_bundle=given)

    def test_words(self, bundle: Path) -> None:
        with pytest.raises(
            InputError, match=r"encoder='models/model\.pt' is unknown: choose pretrained, random or none"
        ):
            task_network(unet(), "models/model.pt")
        with pytest.raises(InputError, match=r"freeze='half' is neither true nor false"):
            task_network(unet(), encoder_bundle=bundle, freeze="half")  # type: ignore[arg-type]


class TestLoadModel:
    @pytest.mark.parametrize("form", ["model.pt", "checkpoint.pt", "ddp.pt", "model.safetensors"])
    def test_the_same_network_in_evaluation_mode(self, tmp_path: Path, form: str) -> None:
        source, target = unet(), unet()
        state = source.state_dict()
        wrapped = {f"module.{key}": value for key, value in state.items()}
        contents = {"model.pt": state, "checkpoint.pt": {"model": state, "epoch": 3}, "ddp.pt": {"state_dict": wrapped}}
        if form in contents:
            torch.save(contents[form], tmp_path / form)
        else:
            save_file(state, tmp_path / form)
        loaded = load_model(target, tmp_path / form, "train it")
        assert loaded is target
        assert not any(part.training for part in loaded.modules())
        image = torch.randn(1, 1, 32, 32, 32)
        assert torch.equal(loaded(image), source.eval()(image))

    def test_a_missing_file_with_the_command_that_makes_it(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none.pt", tmp_path):
            with pytest.raises(InputError) as caught:
                load_model(unet(), path, "python train.py")
            assert str(caught.value) == f"{path}: no such weights file; make one with `python train.py` or name another"

    @pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", "half", [1, 2]], ids=str)
    def test_a_file_without_weights_is_named(self, tmp_path: Path, content: Any) -> None:
        path = tmp_path / "model.pt"
        torch.save(content if isinstance(content, list) else unet().state_dict(), path)
        if not isinstance(content, list):
            path.write_bytes(content if isinstance(content, bytes) else path.read_bytes()[:3000])
        with pytest.raises(
            InputError, match=r"model\.pt: (is no weights file|holds no tensors)|model\.pt is damaged"
        ) as caught:
            load_model(unet(), path, "train it")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("content", "cure"), [("width", "set --features to"), ("part", "take the model"), ("more", "take the model")]
    )
    def test_another_network_is_told_in_one_line(self, tmp_path: Path, content: str, cure: str) -> None:
        path = tmp_path / "model.pt"
        state = unet().state_dict()
        others = {
            "width": unet((2, 3, 4, 5, 7)).state_dict(),
            "part": {key: value for key, value in state.items() if key.startswith(BLOCKS)},
            "more": {**state, "extra": torch.ones(2)},
        }
        torch.save(others[content], path)
        with pytest.raises(InputError, match=rf"model\.pt does not hold this network \(.+\): {cure}") as caught:
            load_model(unet(), path, "train it")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300 + len(str(path))
