"""Networks that come with the checkout are whole, small, and what their cards say."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import BasicUNet

from scripts.bundles import BUNDLE_NAMES, BUNDLES, ROOT
from scripts.errors import InputError
from scripts.weights.shipped import shipped_weights

SHIPPED = [name for name in BUNDLE_NAMES if (BUNDLES / name / "weights").is_dir()]


def test_they_are_small() -> None:
    files = [path for name in SHIPPED for path in (BUNDLES / name / "weights").iterdir()]
    assert 0 < sum(path.stat().st_size for path in files) < 25e6


@pytest.mark.parametrize("name", SHIPPED)
def test_card_and_tensors_belong_together(name: str) -> None:
    found = shipped_weights(BUNDLES / name)
    assert found is not None
    card = json.loads((found.path.with_name("card.json")).read_text())
    assert card["sha256"] == hashlib.sha256(found.path.read_bytes()).hexdigest()
    known = json.loads((BUNDLES / name / "configs" / "inference.json").read_text())
    assert set(found.inference) <= set(known)
    state = torch.load(found.path, weights_only=True)
    assert all(value.isfinite().all() for value in state.values())
    network = BasicUNet(3, 1, 4, found.inference["features"], act="GELU", norm="instance", upsample="deconv")
    network.load_state_dict(state)


def test_predict_takes_them_where_nothing_was_trained(commands, tmp_path: Path) -> None:
    side = 40
    axis = np.linspace(-1, 1, side)
    r = np.sqrt(sum(a**2 for a in np.meshgrid(axis, axis, axis, indexing="ij")))
    head = np.where(r < 0.9, 100.0 + 50 * (r < 0.5), 0.0).astype(np.float32)
    nib.save(nib.Nifti1Image(head, np.diag([4.0, 4.0, 4.0, 1.0])), tmp_path / "head.nii.gz")
    bundle = tmp_path / "ixi_seg"
    bundle.mkdir()
    for part in ("configs", "weights"):
        (bundle / part).symlink_to(BUNDLES / "ixi_seg" / part)
    words = [sys.executable, "-m", "scripts", "predict", str(bundle), str(tmp_path / "head.nii.gz")]
    more = ["--out", str(tmp_path / "out"), "--spacing", "4.0", "--patch_size", "48"]
    done = commands.run([*words, *more], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "network: tissue of any contrast" in done.stdout
    assert (tmp_path / "out" / "head_seg.nii.gz").is_file()


def test_a_card_that_is_none_is_named(tmp_path: Path) -> None:
    assert shipped_weights(tmp_path) is None
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.pt").write_bytes(b"")
    (tmp_path / "weights" / "card.json").write_text("{}")
    with pytest.raises(InputError, match=r"card\.json is no card of weights"):
        shipped_weights(tmp_path)
