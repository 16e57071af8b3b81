"""The lines in the README that extract features in plain PyTorch, run as they are printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from scripts.inferers.embedding import embed_volume
from scripts.io.volume_reader import load_volume
from scripts.networks import Encoder, load_encoder
from scripts.views import zscore_foreground

ROOT = Path(__file__).resolve().parents[2]
CHECK = """
import sys
assert not any(name.split(".")[0] in ("scripts", "monai") for name in sys.modules)
torch.save(features, "features.pt")
"""


def lines_of(text: str) -> str:
    """Return the one block of Python that reads model.ts."""
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "torch.jit.load" in block]
    return block


def scan(path: Path) -> Path:
    """Write a scan of flipped and exchanged axes, of sides that are no multiples of 16, with a background of 0."""
    rng = np.random.default_rng(2)
    voxels = rng.gamma(4.0, 50.0, (50, 37, 33)).astype(np.float32)
    centre = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in voxels.shape), indexing="ij"))
    voxels[np.linalg.norm(centre, axis=0) > 1] = 0
    affine = np.array([[0, -1.0, 0, 9], [1.0, 0, 0, -3], [0, 0, -1.0, 5], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


def test_lines_give_the_projects_own_features(exported: dict[str, Any], tmp_path: Path) -> None:
    lines = lines_of((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len([line for line in lines.splitlines() if line]) == 9
    shutil.copyfile(exported["folder"] / "model.ts", tmp_path / "model.ts")
    path = scan(tmp_path / "scan.nii.gz")
    (tmp_path / "run.py").write_text(lines + CHECK, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "run.py"],
        cwd=tmp_path,
        env={**kept, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    features = torch.load(tmp_path / "features.pt", weights_only=True)

    encoder = Encoder(features=(3, 4, 5, 6, 7)).eval()
    load_encoder(encoder, exported["folder"] / "model.safetensors")
    image = zscore_foreground(load_volume(path))
    assert tuple(image.shape) == (1, 37, 50, 33)
    expected = embed_volume(image[None], encoder, roi_size=(48, 64, 48))["dense"]
    assert expected.shape == (7, 3, 4, 3)
    torch.testing.assert_close(features[0], expected.as_subclass(torch.Tensor), rtol=0, atol=2e-5)


def test_the_card_prints_the_same_lines(exported: dict[str, Any]) -> None:
    card = (exported["folder"] / "README.md").read_text(encoding="utf-8")
    assert lines_of(card) == lines_of((ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_lines_for_a_checkout_load_the_full_size_encoder(tmp_path: Path, monkeypatch: Any) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (lines,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "load_encoder(" in block]
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = Encoder().state_dict()
    (tmp_path / "encoder").mkdir()
    save_file(state, tmp_path / "encoder" / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(lines, "README.md", "exec"), names)
    loaded = names["encoder"].state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    assert not names["encoder"].training
