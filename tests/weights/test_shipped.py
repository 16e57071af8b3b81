"""Networks that come with the checkout are whole, small, and what their cards say."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.bundles import BUNDLE_NAMES, BUNDLES, ROOT
from scripts.errors import InputError
from scripts.package import package_bundle, unpack_bundle
from scripts.tasks import MAPS_OVERLAY
from scripts.weights.provenance import provenance_of, weights_file
from scripts.weights.shipped import read_card, shipped_file

SHIPPED = [name for name in BUNDLE_NAMES if (BUNDLES / name / "weights").is_dir()]


def inference_configs(bundle: Path) -> list[dict[str, Any]]:
    """Its inference.json and, where there is one, the overlay that finds maps."""
    paths = (bundle / "configs" / name for name in ("inference.json", MAPS_OVERLAY))
    return [json.loads(path.read_text()) for path in paths if path.is_file()]


def test_they_are_small() -> None:
    files = [path for name in SHIPPED for path in (BUNDLES / name / "weights").iterdir()]
    assert 0 < sum(path.stat().st_size for path in files) < 25e6


@pytest.mark.parametrize("name", SHIPPED)
def test_card_and_tensors_belong_together(name: str) -> None:
    path = shipped_file(BUNDLES / name)
    found = provenance_of(path, name)  # refuses another's card
    assert set(found.inference) <= {key for config in inference_configs(BUNDLES / name) for key in config}
    assert found.summary
    assert found.scores
    state = torch.load(path, weights_only=True)
    assert all(value.isfinite().all() and value.dtype == torch.float16 for value in state.values())


@pytest.mark.parametrize("name", SHIPPED)
def test_they_stand_on_their_own_in_a_package(name: str, tmp_path: Path) -> None:
    made = package_bundle(BUNDLES / name, tmp_path)  # loads them into the network of its configs
    assert made.weights is not None
    unpacked = unpack_bundle(made.path, tmp_path)
    told = json.loads((unpacked / "configs" / "metadata.json").read_text())["training"]
    assert told["weights_sha256"] == made.weights.sha256
    configs = inference_configs(unpacked)
    for key, value in made.weights.inference.items():
        assert value in [config.get(key) for config in configs], key
    assert json.loads((unpacked / "configs" / "train.json").read_text()).get("modality") != "synthetic"


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
    path = shipped_file(tmp_path)
    assert weights_file(tmp_path) is None
    path.parent.mkdir()
    path.write_bytes(b"")
    assert weights_file(tmp_path) == path
    assert read_card(path) is None
    path.with_name("card.json").write_text("{}")
    with pytest.raises(InputError, match=r"card\.json is no card of weights"):
        provenance_of(path, "ixi_seg")


def test_a_card_of_other_weights_is_refused(tmp_path: Path) -> None:
    shutil.copytree(BUNDLES / "ixi_seg" / "weights", tmp_path / "weights")
    torch.save({"conv_0.weight": torch.zeros(1)}, shipped_file(tmp_path))
    with pytest.raises(InputError, match=r"card\.json is of other weights than model\.pt beside it"):
        provenance_of(shipped_file(tmp_path), "ixi_seg")
