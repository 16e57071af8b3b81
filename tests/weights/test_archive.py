from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from scripts.errors import InputError
from scripts.networks.downstream import load_model
from scripts.weights.archive import check_archive, check_numbers
from scripts.weights.encoder_state import read_encoder_state
from scripts.weights.provenance import provenance_of

STATE = {"conv_0.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3), "steps": torch.tensor(4)}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(STATE, tmp_path / "model.pt")
    return tmp_path / "model.pt"


def flip(path: Path) -> Path:
    """Change a byte of a tensor, so that the file can still be read."""
    content = bytearray(path.read_bytes())
    at = content.index(STATE["conv_0.weight"].numpy().tobytes()) + 6
    content[at] ^= 0x10
    path.write_bytes(content)
    assert torch.load(path, weights_only=True).keys() == STATE.keys()
    return path


def test_whole_weights_are_taken(weights: Path, tmp_path: Path) -> None:
    check_archive(weights)
    torch.save({name: value.half() for name, value in STATE.items()}, tmp_path / "half.pt")
    check_archive(tmp_path / "half.pt")
    (tmp_path / "model.safetensors").write_bytes(bytes(20))  # has no checksums
    check_archive(tmp_path / "model.safetensors")


def test_a_flipped_byte_is_found_at_every_door(weights: Path) -> None:
    flip(weights)
    torch.save({"settings": {}, "epoch": 1, "model": STATE}, weights.with_name("checkpoint.pt"))
    doors = (
        check_archive,
        read_encoder_state,
        lambda path: load_model(torch.nn.Linear(3, 2), path, "python train.py"),
        lambda path: provenance_of(path, "ixi_seg"),
    )
    for door in doors:
        with pytest.raises(InputError, match=r"model\.pt is damaged \(the checksum of .*data/0 is wrong\): copy"):
            door(weights)


def test_a_damaged_table_of_contents(weights: Path) -> None:
    content = bytearray(weights.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at : at + 4] = b"XX\x01\x02"
    weights.write_bytes(content)
    assert zipfile.is_zipfile(weights)
    with pytest.raises(InputError, match="its table of contents is wrong"):
        check_archive(weights)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("version https://git-lfs.github.com/spec/v1\nsize 9\n", "is a pointer of Git LFS.*`git lfs pull`"),
        ("../.git/annex/objects/Wk/8x/MD5E-s9--2f.pt/MD5E-s9--2f.pt", "is a pointer of git-annex.*`datalad get`"),
    ],
)
def test_a_pointer_is_named_as_such(weights: Path, text: str, line: str) -> None:
    weights.write_text(text)
    for read in (check_archive, read_encoder_state, lambda path: load_model(torch.nn.Linear(3, 2), path, "")):
        with pytest.raises(InputError, match=line):
            read(weights)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (torch.tensor([1.0, float("nan")]), "b holds NaN or Inf"),
        (torch.tensor([1.0, float("inf")], dtype=torch.float16), "b holds NaN or Inf"),
        (torch.ones(2, dtype=torch.complex64), "b holds complex numbers"),
    ],
)
def test_numbers_that_are_none(weights: Path, value: torch.Tensor, line: str) -> None:
    with pytest.raises(InputError, match=line):
        check_numbers(weights, {"a": torch.ones(2), "b": value, "c": "text"})
    torch.save({"weight": torch.ones(2, 2), "b": value}, weights)
    with pytest.raises(InputError, match=rf"model\.pt: {line}"):
        load_model(torch.nn.Linear(2, 2), weights, "python train.py")


def test_anything_but_tensors_is_left_to_others(weights: Path) -> None:
    for state in ({"a": torch.ones(2, dtype=torch.int64), "b": torch.eye(2).to_sparse(), "c": 3}, [1], None):
        check_numbers(weights, state)
