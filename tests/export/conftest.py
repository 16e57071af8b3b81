"""A pretraining's folder with the weights of a random small encoder, and one export of it by the command."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.networks import Encoder, PretrainNet, Projector, Reconstructor
from tests.commands.client import Commands

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = (3, 4, 5, 6, 7)
ONNX = ("onnx", "onnxscript", "onnxruntime")
HAS_ONNX = all(importlib.util.find_spec(name) for name in ONNX)

# as a training of train.json leaves them in its checkpoint
SETTINGS: dict[str, Any] = {
    "mode": "seqinv",
    "seed": 3,
    "patch_size": 48,
    "contrastive": "NTXentLoss",
    "channels": str(list(WIDTHS)),
    "projector_norm": "None",
    "protocols": "/home/someone/protocols.json",
    "cohort": "embedded",
    "embedded": "{'subjects': 20, 'seed': 0, 'spacing': 2.0}",
    "split": "dfae7e8fd540",
}
INVARIANCE = """metric,level,value,low,high,chance,better,n,encoder,cohort
retrieval_top1,pooled,0.75,0.7,0.8,0.0104,higher,96,pretrained,embedded
retrieval_top1,pooled,0.25,0.2,0.3,0.0104,higher,96,random,embedded
uniformity,pooled,-0.01,-0.02,0.0,0.0,lower,96,pretrained,embedded
tissue_r2_across_sequences,dense,,,,0.0,higher,0,pretrained,embedded
"""


def pretraining(folder: Path, settings: dict[str, Any] = SETTINGS) -> Path:
    """Make the folder that a pretraining and its evaluation leave."""
    torch.manual_seed(5)
    net = PretrainNet(
        Encoder(features=WIDTHS, dropout=0.5), Projector(WIDTHS[-1], 8, 7), Reconstructor(WIDTHS[-1], (6, 5, 4, 3))
    )
    (folder / "models").mkdir(parents=True)
    (folder / "eval").mkdir()
    state = net.state_dict()
    torch.save(state, folder / "models" / "model.pt")
    saved = {"model": state, "epoch": 4, "iteration": 80, "best": {"metric": 0.0, "epoch": -1}, "settings": settings}
    torch.save(saved, folder / "models" / "checkpoint.pt")
    (folder / "eval" / "invariance.csv").write_text(INVARIANCE, encoding="utf-8")
    return folder


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    return pretraining(tmp_path / "pretrained")


@pytest.fixture(scope="session")
def command(commands: Commands) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Type a command of the project in the root of the checkout."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        return commands.run([sys.executable, "-m", "scripts", *map(str, words)], cwd=ROOT, env=environment)

    return run


@pytest.fixture(scope="session")
def exported(
    shared: Callable[[str, Callable[[Path], Any]], Any], command: Callable[..., subprocess.CompletedProcess[str]]
) -> dict[str, Any]:
    """What the command makes of a pretraining, in every format that can be written here."""

    def make(folder: Path) -> dict[str, Any]:
        source = pretraining(folder / "source")
        formats = "safetensors,torchscript,pt" + (",onnx" if HAS_ONNX else "")
        words = ("--format", formats, "--weights", source, "--out", folder / "out")
        done = command("export", "encoder", *words)
        assert done.returncode == 0, done.stderr
        return {"source": source, "folder": folder / "out", "formats": formats, "said": done.stdout + done.stderr}

    made: dict[str, Any] = shared("exported", make)
    return made


@pytest.fixture(scope="session")
def reference(exported: dict[str, Any]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The features by MONAI's own BasicUNet, into which the weights of the pretraining are copied."""
    from monai.networks.nets import BasicUNet

    net = BasicUNet(features=(*WIDTHS, 2), act="GELU", norm="instance", dropout=0.0).eval()
    state = torch.load(exported["source"] / "models" / "model.pt", weights_only=True)
    inside = {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}
    assert len(inside) == 20
    net.load_state_dict({**net.state_dict(), **inside})

    @torch.inference_mode()
    def features(image: torch.Tensor) -> torch.Tensor:
        for block in (net.conv_0, net.down_1, net.down_2, net.down_3, net.down_4):
            image = block(image)
        return image

    return features
