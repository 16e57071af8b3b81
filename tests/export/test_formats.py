"""Every format gives the features of MONAI's BasicUNet with the same weights, and names nothing of this machine."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
SIZES = ((1, 1, 32, 32, 32), (3, 1, 64, 32, 48))
Call = Callable[[Tensor], Tensor]


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(11)
    return [torch.randn(size, generator=generator) for size in SIZES]


def test_torchscript_equals_the_network_at_any_fit_size(exported: dict[str, Any], reference: Call) -> None:
    network = torch.jit.load(exported["folder"] / "model.ts")
    assert not network.training
    for image in images():
        for _ in range(3):  # the third call runs what the second has optimised
            torch.testing.assert_close(network(image), reference(image), rtol=0, atol=1e-6)
    network.train()
    torch.testing.assert_close(network(image), reference(image), rtol=0, atol=1e-6)  # no dropout left


def test_torchscript_weights_follow_to_another_type(exported: dict[str, Any], reference: Call) -> None:
    network = torch.jit.load(exported["folder"] / "model.ts").double()
    image = images()[0]
    assert network(image.double()).dtype == torch.float64
    torch.testing.assert_close(network(image.double()).float(), reference(image), rtol=0, atol=1e-4)


def test_safetensors_holds_the_tensors_and_the_config(exported: dict[str, Any]) -> None:
    # read by the format's definition: length of the header, header, data
    content = (exported["folder"] / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    metadata, data = header.pop("__metadata__"), content[8 + length :]
    assert metadata["format"] == "pt"
    assert json.loads(metadata["config"]) == json.loads((exported["folder"] / "config.json").read_text())
    state = torch.load(exported["source"] / "models" / "model.pt", weights_only=True)
    assert {f"encoder.{name}" for name in header} == {key for key in state if key.startswith("encoder.")}
    for name, about in header.items():
        first, last = about["data_offsets"]
        values = np.frombuffer(data[first:last], "<f4").reshape(about["shape"])
        assert np.array_equal(values, state[f"encoder.{name}"].numpy()), name


def test_pt_is_a_plain_state_dict(exported: dict[str, Any]) -> None:
    state = torch.load(exported["folder"] / "model.pt", weights_only=True)
    model = torch.load(exported["source"] / "models" / "model.pt", weights_only=True)
    assert len(state) == 20
    assert all(torch.equal(value, model[f"encoder.{name}"]) for name, value in state.items())


def test_onnx_equals_the_network_at_any_fit_size(exported: dict[str, Any], reference: Call) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra export")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")
    model = onnx.load(exported["folder"] / "model.onnx")
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
    assert shape_of(model.graph.input[0]) == ["batch", 1, "16*i", "16*j", "16*k"]
    assert shape_of(model.graph.output[0]) == ["batch", 7, "i", "j", "k"]
    (config,) = [each.value for each in model.metadata_props if each.key == "config"]
    assert json.loads(config) == json.loads((exported["folder"] / "config.json").read_text())
    session = onnxruntime.InferenceSession(exported["folder"] / "model.onnx", providers=["CPUExecutionProvider"])
    for image in images():
        (features,) = session.run(None, {"image": image.numpy()})
        torch.testing.assert_close(torch.from_numpy(features), reference(image), rtol=0, atol=1e-4)


def shape_of(value: Any) -> list[Any]:
    return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]


def test_nothing_names_this_machine(exported: dict[str, Any]) -> None:
    local = [str(ROOT), str(Path.home()), sys.prefix, str(exported["source"]), "site-packages", "/home/someone"]
    for path in exported["folder"].iterdir():
        content = path.read_bytes()
        if path.suffix in (".ts", ".pt"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                content = b"".join(name.encode() + archive.read(name) for name in archive.namelist())
        assert [word for word in local if word.encode() in content] == [], path.name


def test_the_same_weights_give_the_same_bytes(
    exported: dict[str, Any], command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    words = ("--format", exported["formats"], "--weights", exported["source"], "--out", tmp_path / "again")
    assert command("export", "encoder", *words).returncode == 0
    names = sorted(path.name for path in exported["folder"].iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    changed = [
        name for name in names if (exported["folder"] / name).read_bytes() != (tmp_path / "again" / name).read_bytes()
    ]
    assert changed == []


def test_tells_sizes_and_largest_differences(exported: dict[str, Any]) -> None:
    said = exported["said"]
    assert "encoder of widths 3, 4, 5, 6, 7 (seqinv, embedded cohort, 4 epochs)" in said
    for name in ("model.safetensors", "model.ts", "model.pt"):
        (line,) = [line for line in said.splitlines() if line.strip().startswith(name)]
        assert float(line.rpartition(" ")[2]) <= 1e-6
    assert "Warning" not in said
