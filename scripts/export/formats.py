"""The formats that an encoder is written in: how each is written, and read back to be compared."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.export.onnx import read_onnx, write_onnx
from scripts.export.torchscript import read_torchscript, write_torchscript
from scripts.networks import Encoder

__all__ = ["FORMATS", "Format", "chosen_formats", "largest_difference"]

Call = Callable[[Tensor], Tensor]
_SIZES = ((1, 32, 32, 32), (2, 48, 32, 64))


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        file: name of the file in the folder.
        write: writes an encoder and its config to a path.
        read: returns the function that the file at a path holds; the config tells its sizes.
        tolerance: largest difference of features from those of the network.
        packages: that it needs beyond those of the project.
    """

    file: str
    write: Callable[[Encoder, Path, Mapping[str, Any]], object]
    read: Callable[[Path, Mapping[str, Any]], Call]
    tolerance: float
    packages: tuple[str, ...] = ()


def chosen_formats(names: str | Sequence[str]) -> list[str]:
    """Return the names of formats that a user typed, each once, in the order of `FORMATS`.

    Args:
        names: one, several joined by commas, or a sequence of them.

    Raises:
        InputError: an unknown one, none, or one whose packages are not installed.
    """
    words = names.split(",") if isinstance(names, str) else [str(name) for name in names]
    given = {word.strip() for word in words if word.strip()}
    unknown = sorted(given - FORMATS.keys())
    if unknown or not given:
        raise InputError(f"format {unknown[0] if unknown else names!r} is unknown: choose some of {', '.join(FORMATS)}")
    for name in given:
        missing = [package for package in FORMATS[name].packages if importlib.util.find_spec(package) is None]
        if missing:
            raise InputError(f'format {name} needs {", ".join(missing)}: type `pip install -e ".[export]"`')
    return [name for name in FORMATS if name in given]


@torch.inference_mode()
def largest_difference(encoder: Encoder, read: Call, in_channels: int) -> float:
    """Return the largest difference of features of fixed random images of two sizes; NaN counts as infinite.

    Each is computed twice, as TorchScript optimises what has run once.
    """
    generator = torch.Generator().manual_seed(0)
    found = 0.0
    for number, *size in _SIZES:
        image = torch.randn(number, in_channels, *size, generator=generator)
        expected = encoder(image)
        for _ in range(2):
            features = read(image)
            if features.shape != expected.shape:
                return float("inf")
            found = max(found, float((features - expected).abs().max().nan_to_num(float("inf"))))
    return found


def _write_safetensors(encoder: Encoder, path: Path, config: Mapping[str, Any]) -> None:
    from safetensors.torch import save

    tensors = {name: value.contiguous() for name, value in encoder.state_dict().items()}
    content = save(tensors, metadata={"format": "pt", "config": json.dumps(config, ensure_ascii=False)})
    # its header lists the metadata in random order
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def _write_pt(encoder: Encoder, path: Path, _config: Mapping[str, Any]) -> None:
    with path.open("wb") as stream:  # given a path, torch would write its name into the file
        torch.save(encoder.state_dict(), stream)


def _read_state(path: Path, config: Mapping[str, Any]) -> Call:
    """Return the network that a plain user would build: of the sizes in the config, loaded strictly."""
    network: nn.Module = Encoder(config["in_channels"], config["features"])
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        network.load_state_dict(load_file(path))
    else:
        network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


FORMATS: dict[str, Format] = {
    "safetensors": Format("model.safetensors", _write_safetensors, _read_state, 0.0, ("safetensors",)),
    "torchscript": Format("model.ts", write_torchscript, read_torchscript, 1e-6),
    "onnx": Format("model.onnx", write_onnx, read_onnx, 1e-4, ("onnx", "onnxscript", "onnxruntime")),
    "pt": Format("model.pt", _write_pt, _read_state, 0.0),
}
"""Name, as it is typed -> format."""
