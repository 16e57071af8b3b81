"""inference_maps.json, alone and by ``predict``: maps, their uncertainty, another protocol, what to believe."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.networks import Decoder, Encoder, MapHead, PretrainNet, PretrainUNet, Projector, Reconstructor
from scripts.predict import predict

WIDTHS = (4, 4, 8, 8, 8)
NAMES = ["inference.json", "inference_maps.json"]
MAPS = ("PDmap", "R1map", "R2starmap", "MTsat")
Run = Callable[..., ConfigWorkflow]


@pytest.fixture(autouse=True)
def user(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in the repository's root; what a run changes in this process is undone."""
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A textured ball at 2 mm, its axes turned, so that inference at 2 mm moves voxels and changes none."""
    axes = [np.linspace(-1, 1, n) for n in (34, 38, 32)]
    ball = sum(x**2 for x in np.meshgrid(*axes, indexing="ij")) <= 0.9
    voxels = np.where(ball, np.random.default_rng(0).uniform(400, 900, ball.shape), 0).astype(np.float32)
    affine = np.array([[0, -2, 0, 20], [2, 0, 0, -30], [0, 0, 2, -25], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "sub-1_T1w.nii.gz")
    return tmp_path / "sub-1_T1w.nii.gz"


@pytest.fixture
def weights(tmp_path: Path) -> Callable[[bool], Path]:
    """Write the weights of a network as `maps.json` trains it, untrained."""

    def make(uncertainty: bool) -> Path:
        torch.manual_seed(0)
        network = PretrainUNet(Encoder(features=WIDTHS), Decoder(WIDTHS, 4), MapHead(4, uncertainty=uncertainty))
        path = tmp_path / f"maps{uncertainty}.pt"
        torch.save(network.state_dict(), path)
        return path

    return make


def read(path: Path) -> NDArray[np.float64]:
    return np.asarray(nib.load(path).dataobj, dtype=np.float64)


def table_in(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("uncertainty", [False, True], ids=["maps", "with uncertainty"])
def test_maps_lie_on_the_own_grid_and_a_rendered_image_is_theirs(
    scan: Path, weights: Callable[[bool], Path], run_here: Run, tmp_path: Path, uncertainty: bool
) -> None:
    out = tmp_path / "out"
    settings = {"image": str(scan), "output_dir": str(out), "weights_path": str(weights(uncertainty))}
    own = {"patch_size": 32, "spacing": 2.0, "simulations": 2}
    run_here(NAMES, {**settings, **own, "render": "fse", "render_parameters": {"te": 0.08}}, "infer")
    more = [f"{name}_uncertainty" for name in MAPS] if uncertainty else []
    written = {path.name for path in out.iterdir()}
    assert written == {*(f"sub-1_T1w_{name}.nii.gz" for name in (*MAPS, *more, "render-fse")), "maps.csv"}
    volumes = {name: read(out / f"sub-1_T1w_{name}.nii.gz") for name in (*MAPS, *more, "render-fse")}
    head = read(scan) > 0
    for name, volume in volumes.items():
        np.testing.assert_array_equal(nib.load(out / f"sub-1_T1w_{name}.nii.gz").affine, nib.load(scan).affine)
        assert volume.shape == head.shape
        assert np.abs(volume[~head]).max() == 0
        assert volume.min() >= 0
        assert volume[head].std() > 0
    assert 20 < np.median(volumes["PDmap"][head]) < 150  # standardised values of an untrained network are small
    pd, r1, r2star = (volumes[name] for name in MAPS[:3])
    expected = pd * (1 - np.exp(-5.0 * r1)) * np.exp(-0.08 * np.minimum(0.8 * r2star, 14))
    np.testing.assert_allclose(volumes["render-fse"], expected, rtol=1e-4, atol=1e-4)
    (row,) = table_in(out / "maps.csv")
    assert (row["image"], row["maps"]) == (str(scan), "sub-1_T1w_PDmap.nii.gz")
    assert 0 < float(row["residual"]) <= 1
    assert float(row["median_R1map"]) == pytest.approx(np.median(r1[head]), rel=0.02)


def test_predict_tells_what_is_unlike_the_training(
    scan: Path, weights: Callable[[bool], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options: dict[str, Any] = {"out": out, "weights": weights(False), "spacing": 4.0, "patch_size": 32}
    told = str(predict("pretrain_seqinv", scan, maps=True, **options))
    row, kept = table_in(out / "predictions.csv")[0], table_in(out / "maps.csv")[0]
    assert row["files"].split(";") == [f"sub-1_T1w_{name}.nii.gz" for name in MAPS]
    assert row["status"] == "ok"
    assert float(kept["residual"]) > 0.5
    assert row["warning"] == kept["warning"]
    assert row["warning"].startswith("this scan is unlike any simulated protocol: the best of 132 leaves ")
    assert told.splitlines()[-1] == f"warning: {scan}: {row['warning']}"
    # a table of a version without warnings goes on
    lines = [",".join(line.split(",")[:5]) for line in (out / "predictions.csv").read_text().splitlines()]
    (out / "predictions.csv").write_text("\n".join(lines).replace(str(scan), "other.nii.gz") + "\n")
    told = str(predict("pretrain_seqinv", scan, render="gre", render_parameters={"te": None, "tr": 0.03}, **options))
    assert "sub-1_T1w_render-gre.nii.gz" in told
    assert [row["warning"] != "" for row in table_in(out / "predictions.csv")] == [False, True]
    assert len(table_in(out / "maps.csv")) == 1


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"bundle": "ixi_seg"}, "bundle ixi_seg gives no maps: leave --maps and --render out, or take pretrain_seqinv"),
        ({"weights": "none.pt"}, "none.pt: no such weights file; make one with `python -m monai.bundle run "
                                 "--config_file \"['bundles/pretrain_seqinv/configs/train.json',"
                                 "'bundles/pretrain_seqinv/configs/maps.json']\"`"),
        ({"render": "dwi"}, "render dwi: no such sequence, choose mprage"),
        ({"render": "flair", "render_parameters": {"ti": 0.2}}, "render flair: TI is far from the null of CSF"),
        ({"render_parameters": {"te": 0.2}}, "--te says how to render: name a sequence, --render flair"),
        ({"features": "small"}, "features='small' is no such list: give 5 of them"),
        ({"probabilities": True}, "inference_maps.json has no setting probabilities: leave its option out"),
        ({"residual_limit": 1.5}, "residual_limit=1.5 is out of bounds: give a number from 0 to 1"),
        ({"maps": False, "residual_limit": 0.5}, "inference.json has no setting residual_limit: leave its option out"),
        ({"features": [4, 4, 8, 8, 16]}, "does not hold this network (size mismatch"),
    ],
    ids=[
        *("bundle", "weights", "sequence", "timings", "no sequence", "features", "setting", "limit", "no maps"),
        "other widths",
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_in_one_line_before_any_work(
    scan: Path, weights: Callable[[bool], Path], tmp_path: Path, changed: dict[str, Any], line: str
) -> None:
    given: dict[str, Any] = {"bundle": "pretrain_seqinv", "weights": weights(False), "maps": True, **changed}
    with pytest.raises(InputError) as caught:
        predict(given.pop("bundle"), scan, out=tmp_path / "out", **given)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_weights_without_maps_are_named_with_the_cure(scan: Path, tmp_path: Path) -> None:
    """Those of the paper's recipe, from which an embedding can be had."""
    network = PretrainNet(Encoder(features=WIDTHS), Projector(WIDTHS), Reconstructor(WIDTHS, (8, 8, 4, 4)))
    torch.save(network.state_dict(), tmp_path / "model.pt")
    told = rf"{tmp_path / 'model.pt'}: holds no network with a head for the four maps; train one with .*maps\.json"
    with pytest.raises(InputError, match=told):
        predict("pretrain_seqinv", scan, out=tmp_path / "out", weights=tmp_path / "model.pt", maps=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"residual_limit": 2}, "residual_limit=2 is out of bounds: give a number from 0 to 1"),
        ({"simulations": -1}, "simulations=-1 is out of bounds"),
        ({"protocols": "papper"}, "prior: unknown preset 'papper'; there are paper"),
        ({"render": "fse", "render_parameters": {"ti": 1}}, "render fse: it has no ti"),
        ({"render": "fse", "render_parametres": {}}, "render_parametres: the config has no such setting"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_settings_of_a_bundle_run_are_checked(
    scan: Path,
    weights: Callable[[bool], Path],
    refusal: Callable[..., str],
    tmp_path: Path,
    changed: dict[str, Any],
    line: str,
) -> None:
    settings = {"image": str(scan), "output_dir": str(tmp_path / "out"), "weights_path": str(weights(False))}
    assert line in refusal(NAMES, {**settings, "patch_size": 32, "spacing": 4.0, **changed}, "infer")
    assert not (tmp_path / "out").exists()


def test_a_bundle_of_ones_own_gives_maps_too(
    scan: Path, weights: Callable[[bool], Path], root: Path, tmp_path: Path
) -> None:
    """As a packed one: its weights in their place, and the windows of their training in its config."""
    folder = tmp_path / "own"
    shutil.copytree(root / "bundles/pretrain_seqinv/configs", folder / "configs")
    path = folder / "configs" / "inference.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "patch_size": 32, "spacing": 4.0}))
    (folder / "models").mkdir()
    shutil.copy(weights(True), folder / "models" / "model.pt")
    outcome = predict(folder, scan, out=tmp_path / "out", maps=True)
    assert len(outcome.rows[0]["files"].split(";")) == 8
    scale = read(tmp_path / "out" / "sub-1_T1w_PDmap_uncertainty.nii.gz")
    assert 1 < np.median(scale[read(scan) > 0]) < 100  # p.u.; an untrained head begins near its unit, 10
