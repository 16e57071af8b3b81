"""What a file of weights tells of a network that finds maps, and files that hold none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scripts.errors import InputError
from scripts.networks import (
    Decoder,
    Encoder,
    MapHead,
    PretrainNet,
    PretrainUNet,
    Projector,
    Reconstructor,
    VoxelProjectors,
)
from scripts.weights.map_network import load_map_network, read_map_network

WIDTHS = (2, 3, 4, 5, 6)


def make(uncertainty: bool = False, widths: tuple[int, ...] = WIDTHS, more: bool = False) -> PretrainUNet:
    encoder, decoder = Encoder(features=widths), Decoder(widths, 7)
    projectors = VoxelProjectors({"decoder_1": 7}, 4, 2) if more else None
    return PretrainUNet(encoder, decoder, MapHead(7, uncertainty=uncertainty), projectors)


@pytest.mark.parametrize("uncertainty", [False, True])
@pytest.mark.parametrize("form", ["state", "checkpoint", "with other heads"])
def test_sizes_and_tensors_come_from_the_file(tmp_path: Path, uncertainty: bool, form: str) -> None:
    torch.manual_seed(1)
    trained = make(uncertainty, more=form == "with other heads")
    state = trained.state_dict()
    torch.save({"model": state, "epoch": 3} if form == "checkpoint" else state, tmp_path / "model.pt")
    found = read_map_network(tmp_path / "model.pt")
    assert (found.features, found.width, found.uncertainty) == (WIDTHS, 7, uncertainty)
    network = load_map_network(make(uncertainty), found)
    assert not network.training
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)


def test_a_file_without_maps_is_named_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    cure = r"with `python -m monai\.bundle run --config_file .*train\.json','bundles/pretrain_seqinv/configs/maps\.json"
    with pytest.raises(InputError, match=rf"^{path}: no such weights file; make one {cure}"):
        read_map_network(path)
    contrastive = PretrainNet(Encoder(features=WIDTHS), Projector(WIDTHS), Reconstructor(WIDTHS, (5, 4, 3, 2)))
    voxels = PretrainUNet(Encoder(features=WIDTHS), Decoder(WIDTHS, 7), None, VoxelProjectors({"decoder_1": 7}, 4, 2))
    other_maps = PretrainUNet(Encoder(features=WIDTHS), Decoder(WIDTHS, 7), MapHead(7, maps=3))
    for network in (contrastive, voxels, other_maps):
        torch.save(network.state_dict(), path)
        with pytest.raises(
            InputError, match=rf"^{path}: holds no network with a head for the four maps; train one {cure}"
        ):
            read_map_network(path)


def test_a_diverged_or_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    state = make().state_dict()
    torch.save(state, path)
    with pytest.raises(InputError, match=rf"^{path} does not hold this network \(size mismatch .*leave --features out"):
        load_map_network(make(widths=(3, 3, 4, 5, 6)), read_map_network(path))
    state["map_head.conv.bias"][0] = torch.nan
    torch.save(state, path)
    with pytest.raises(InputError, match=r"map_head\.conv\.bias"):
        read_map_network(path)
