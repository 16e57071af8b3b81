"""The encoder as TorchScript: runs without this project, on images of any size that fits it."""

from __future__ import annotations

import io
import itertools
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.networks import Encoder

__all__ = ["read_torchscript", "write_torchscript"]


def write_torchscript(encoder: Encoder, path: Path, config: Mapping[str, Any]) -> None:
    """Script an encoder and write it, with its config as TorchScript's extra file ``config.json``.

    What torch adds for tracebacks is left out: it names the source files of this machine. Constants of a class, which
    torch lists in random order, are sorted. Two processes write the same bytes; one that has scripted other networks
    before numbers the classes differently.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # torch announces the end of TorchScript, which is still what runs without the network's source
        warnings.simplefilter("ignore")
        network = torch.jit.script(encoder)
        torch.jit.save(network, buffer, {"config.json": json.dumps(config, ensure_ascii=False)})
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            if not name.endswith((".debug_pkl", "serialization_id")):
                content = source.read(name)
                target.writestr(zipfile.ZipInfo(name), _sorted(content) if name.endswith(".py") else content)


def read_torchscript(path: Path, _config: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """Return the network in a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: Callable[[Tensor], Tensor] = torch.jit.load(path, map_location="cpu")
    return network


def _sorted(code: bytes) -> bytes:
    """Return the code of a class with each run of lines of constants sorted."""
    lines = code.splitlines(keepends=True)
    parts = itertools.groupby(lines, lambda line: b" : Final[" in line)
    return b"".join(line for is_constant, run in parts for line in (sorted(run) if is_constant else run))
