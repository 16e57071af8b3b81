"""Packed bundles away from the checkout: every verb of monai.bundle, each in a process that knows nothing else."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.bundles import BUNDLES

SCHEMA = Path(__file__).parents[1] / "meta_schema_20240725.json"
SHAPE = (1, 1, 32, 48, 32)

# what a user types to get the network of a bundle from monai, and what it makes of one image
LOAD = """
import sys, numpy, torch
from monai.bundle import {what}
network = {expression}
image = torch.randn({shape}, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    numpy.save(sys.argv[1], network.cpu().eval()(image).numpy())
import scripts
print(scripts.__file__)
"""


@pytest.fixture
def expected(one_packed: Any) -> np.ndarray:
    """What the packed weights make of the image above, by the code of this checkout."""
    from monai.networks.nets import BasicUNet

    from scripts.networks import Encoder, PretrainedEncoder

    state = torch.load(one_packed.folder / "models" / "model.pt", weights_only=True)
    network: torch.nn.Module
    if one_packed.name == "pretrain_seqinv":
        network = PretrainedEncoder(Encoder(features=[4, 4, 8, 8, 8]))
    else:
        settings: dict[str, Any] = {"act": "GELU", "norm": "instance", "dropout": 0.2, "upsample": "deconv"}
        network = BasicUNet(3, 1, len(state["final_conv.bias"]), [4, 4, 8, 8, 8, 4], **settings)
    network.load_state_dict(state)
    with torch.no_grad():
        return network.eval()(torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))).numpy()


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory, data_of: dict[str, dict[str, Any]]) -> Path:
    """A head on an oblique grid, stored from left to right last."""
    head = nib.load(next(iter(sorted(Path(data_of["ixi_seg"]["dataset_dir"]).rglob("IXI*-T1.nii.gz")))))
    turned = np.eye(4)
    turned[:3, :3] = [[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]
    image = nib.Nifti1Image(np.asarray(head.dataobj), turned @ head.affine).as_reoriented([[1, -1], [2, 1], [0, 1]])
    path = tmp_path_factory.mktemp("scan") / "head.nii.gz"
    nib.save(image, path)
    return path


def test_the_same_input_gives_the_same_bytes(
    one_packed: Any,
    trained_away: dict[str, Any],
    package: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = trained_away[one_packed.name].folder
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    again = package(BUNDLES / one_packed.name, tmp_path / "again", weights)
    assert again.sha256 == hashlib.sha256(again.path.read_bytes()).hexdigest()
    assert again.path.read_bytes() == one_packed.archive.read_bytes()


def test_it_says_what_it_was_trained_on(packed: Any, trained_away: dict[str, Any]) -> None:
    told = json.loads((packed.folder / "configs" / "metadata.json").read_text())["training"]
    assert told["weights_sha256"] == hashlib.sha256((packed.folder / "models" / "model.pt").read_bytes()).hexdigest()
    assert told["cohort"] == "embedded"
    assert told["epoch"] == 1
    assert told["variant" if packed.name != "pretrain_seqinv" else "mode"] == "seqinv"
    inference = json.loads((packed.folder / "configs" / "inference.json").read_text())
    train = json.loads((packed.folder / "configs" / "train.json").read_text())
    assert inference["features"][:5] == train["features"][:5] == [4, 4, 8, 8, 8]
    assert inference["patch_size"] == train["patch_size"] == 32
    assert inference["spacing"] == {"ixi_denoise": None, "pretrain_seqinv": 4.0}.get(packed.name, 8.0)
    assert packed.name == "pretrain_seqinv" or train["spacing"] == 8.0


@pytest.mark.parametrize("verb", ["verify_metadata", "verify_net_in_out", "ckpt_export", "onnx_export"])
def test_a_verb_of_monai_works(one_packed: Any, verb: str, expected: np.ndarray, tmp_path: Path) -> None:
    files = ["--meta_file", "configs/metadata.json"]
    configs = [*files, "--config_file", "configs/inference.json"]
    words = {
        # a schema that lies there already is not downloaded
        "verify_metadata": [*files, "--filepath", str(shutil.copy(SCHEMA, tmp_path / "schema.json"))],
        "verify_net_in_out": ["network_def", *configs, "--device", "cpu"],
        "ckpt_export": [
            "network_def",
            *configs,
            "--filepath",
            str(tmp_path / "x.ts"),
            "--ckpt_file",
            "models/model.pt",
        ],
        "onnx_export": [
            *("network_def", *configs, "--filepath", str(tmp_path / "x.onnx"), "--ckpt_file", "models/model.pt"),
            *("--input_shape", str(list(SHAPE))),
        ],
    }
    done = one_packed.python("-m", "monai.bundle", verb, *words[verb], inside=True)
    image = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    if verb == "ckpt_export":
        with torch.no_grad():
            found = torch.jit.load(str(tmp_path / "x.ts")).eval()(image).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)
    elif verb == "onnx_export":
        session = pytest.importorskip("onnxruntime").InferenceSession(str(tmp_path / "x.onnx"))
        (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-4)
    else:
        assert "verified with no error" in done.stdout + done.stderr


@pytest.mark.parametrize("how", ["load", "create_workflow"])
def test_python_gets_the_network_with_its_weights(
    one_packed: Any, how: str, expected: np.ndarray, scan: Path, tmp_path: Path
) -> None:
    folder = one_packed.folder
    expressions = {
        "load": f"load({folder.name!r}, bundle_dir={str(folder.parent)!r}, workflow_type='inference')",
        "create_workflow": (
            f"[w := create_workflow(config_file={str(folder / 'configs' / 'inference.json')!r}, workflow_type='infer', "
            f"image={str(scan)!r}, output_dir={str(tmp_path / 'out')!r}), w.run(), w.finalize(), w.network_def][-1]"
        ),
    }
    code = LOAD.format(what=how, expression=expressions[how], shape=SHAPE)
    done = one_packed.python("-c", code, str(tmp_path / "found.npy"), inside=True)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=1e-5)
    assert how == "load" or list((tmp_path / "out").rglob("head_*"))
    assert done.stdout.strip().splitlines()[-1] == str(folder / "scripts" / "__init__.py")


def test_inference_is_the_same_from_inside_and_from_elsewhere(packed: Any, scan: Path, tmp_path: Path) -> None:
    for inside in (True, False):
        out = tmp_path / str(inside)
        packed.run("inference.json", inside=inside, image=str(scan), output_dir=str(out))
    files = [sorted(p.relative_to(tmp_path / str(i)) for p in (tmp_path / str(i)).rglob("*.n*")) for i in (True, False)]
    assert files[0] == files[1] != []
    for file in files[0]:
        if file.suffix == ".gz":
            first, second = (nib.load(tmp_path / str(inside) / file) for inside in (True, False))
            if packed.name != "pretrain_seqinv":  # whose feature map is coarser
                assert first.shape == nib.load(scan).shape
                np.testing.assert_allclose(first.affine, nib.load(scan).affine, atol=1e-6)
            assert np.array_equal(np.asarray(first.dataobj), np.asarray(second.dataobj))
        else:
            first, second = (np.load(tmp_path / str(inside) / file) for inside in (True, False))
            assert np.array_equal(first["embedding"], second["embedding"])


def test_it_is_trained_and_evaluated(one_packed: Any, data_of: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """A downstream bundle finds the encoder that it carries; its own weights are not trained away."""
    before = hashlib.sha256((one_packed.folder / "models" / "model.pt").read_bytes()).hexdigest()
    places = {"ckpt_dir": str(tmp_path / "models"), "output_dir": str(tmp_path / "eval"), "batch_size": 2}
    settings = {**data_of[one_packed.name], **places, "tracking_uri": f"sqlite:///{tmp_path / 'runs.db'}"}
    done = one_packed.run("train.json", inside=True, **settings)
    assert (tmp_path / "models" / "model.pt").is_file()
    if one_packed.name != "pretrain_seqinv":
        assert re.search(
            r"Encoder: (\d+) of \1 encoder tensors from .*models/encoder/model.pt", done.stdout + done.stderr
        )
    short = {"anatomies": 4} if one_packed.name == "pretrain_seqinv" else {}
    one_packed.run("train.json", "evaluate.json", inside=False, **settings, **short)
    table = "invariance.csv" if one_packed.name == "pretrain_seqinv" else "summary.csv"
    assert (tmp_path / "eval" / table).stat().st_size > 100
    assert hashlib.sha256((one_packed.folder / "models" / "model.pt").read_bytes()).hexdigest() == before


def test_a_wrong_folder_of_the_bundle_is_told(one_packed: Any, scan: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        one_packed.run("inference.json", inside=False, image=str(scan), bundle_root=str(scan.parent))
    assert f"error: {scan.parent} is no bundle: type --bundle_root DIR" in str(caught.value)


def test_a_setting_that_it_does_not_have_is_told(one_packed: Any) -> None:
    for inside in (True, False):
        with pytest.raises(AssertionError) as caught:
            one_packed.run("train.json", inside=inside, max_epoch=1)
        assert "error: max_epoch: the config has no such setting; did you mean max_epochs" in str(caught.value)


def test_its_page_holds_no_command_or_link_of_the_checkout(packed: Any) -> None:
    page = (packed.folder / "docs" / "README.md").read_text()
    assert "bundles/" not in page.replace("report --bundles bundles", "")
    assert "checkout:" not in page
    assert "key `training`" in page
    for link in re.findall(r"\]\(([^)#]+)", page):
        assert link.startswith("http") or (packed.folder / "docs" / link).is_file(), link
