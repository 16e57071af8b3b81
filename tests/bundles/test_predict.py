"""``predict``: a bundle's inference config on a user's own files."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name that its own pages use
import torch
from monai.networks.nets.basic_unet import BasicUNet
from numpy.typing import NDArray
from PIL import Image

from scripts.commands import networks
from scripts.errors import DiskFullError, InputError, find_input_error, printable
from scripts.predict import predict
from scripts.tasks import CLASS_COLOURS
from scripts.transforms import volume_table
from tests.io.test_read import write_series

WIDTHS = [4, 4, 8, 8, 8, 4]


@pytest.fixture(autouse=True)
def user(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in the repository's root; what a run changes in this process is undone."""
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def ball(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """An ellipsoid that touches the faces of a box, so that air is left in its corners as around a head."""
    axes = [np.linspace(-1, 1, n) for n in shape]
    return sum(x**2 for x in np.meshgrid(*axes, indexing="ij")) <= 1.2


@pytest.fixture
def scan(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, seed: int = 0) -> Path:
        voxels = np.zeros((34, 38, 30), np.float32)
        voxels[6:27, 5:33, 4:26] = np.random.default_rng(seed).uniform(200, 900, (21, 28, 22)) * ball((21, 28, 22))
        affine = np.diag([-1.8, 1.8, 2.4, 1.0])
        affine[:3, 3] = [20, -30, -25]
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, affine), tmp_path / name)
        return tmp_path / name

    return make


def copy_of(root: Path, name: str, channels: int, folder: Path) -> Path:
    """Return a bundle folder of our own: the configs, tiny windows, and weights of a tiny network."""
    shutil.copytree(root / "bundles" / name / "configs", folder / "configs")
    path = folder / "configs" / "inference.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "patch_size": 32}))
    torch.manual_seed(1)
    network = BasicUNet(3, 1, channels, WIDTHS, act="GELU", norm="instance", dropout=0.2, upsample="deconv")
    (folder / "models").mkdir()
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.fixture
def segmenter(root: Path, tmp_path: Path) -> Path:
    return copy_of(root, "ixi_seg", 4, tmp_path / "ours_seg")


def read(path: Path) -> Any:
    return np.asarray(nib.load(path).dataobj)


def test_labels_probabilities_and_volumes_on_the_own_grid(
    scan: Callable[..., Path], segmenter: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [scan("a.nii.gz"), scan("in/b.nii", seed=1)]
    out = tmp_path / "out"
    options: dict[str, Any] = {
        "features": WIDTHS,
        "spacing": 1.5,
        "patch_size": 48,
        "device": "cpu",
        "probabilities": True,
    }
    told = str(predict(str(segmenter), str(paths[0]), str(tmp_path / "in"), out=str(out), **options))
    assert told.splitlines()[0].startswith("ours_seg: 2 images in ")
    assert told.splitlines()[0].endswith(str(out))
    names = ["a_probabilities.nii.gz", "a_seg.nii.gz", "b_probabilities.nii.gz", "b_seg.nii.gz"]
    names += ["predictions.csv", "volumes.csv"]
    assert [line.strip() for line in told.splitlines()[1:]] == names
    shown = capfd.readouterr().err
    assert "ours_seg, images: " in shown
    assert "2/2" in shown
    with (out / "volumes.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    for path in paths:
        name = path.name.split(".")[0]
        labels, shares = read(out / f"{name}_seg.nii.gz"), read(out / f"{name}_probabilities.nii.gz")
        np.testing.assert_array_equal(nib.load(out / f"{name}_seg.nii.gz").affine, nib.load(path).affine)
        assert labels.shape == read(path).shape
        assert shares.shape == (*labels.shape, 4)
        np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-5)
        rows = [row for row in table if row["image"] == str(path)]
        assert [row["class"] for row in rows] == ["grey matter", "white matter", "CSF"]
        assert [int(row["voxels"]) for row in rows] == [int((labels == value).sum()) for value in (1, 2, 3)]
        assert [float(row["volume_ml"]) for row in rows] == pytest.approx(
            [(labels == value).sum() * 0.007776 for value in (1, 2, 3)], rel=1e-5
        )


def pixels_of(path: Path) -> NDArray[np.int64]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), np.int64)


def test_a_picture_shows_the_labels_on_each_image(scan: Callable[..., Path], segmenter: Path, tmp_path: Path) -> None:
    paths = [scan("a.nii.gz"), scan("b.nii.gz", seed=1)]
    out = tmp_path / "out"
    options: dict[str, Any] = {"out": out, "features": WIDTHS, "spacing": 2.0, "device": "cpu", "picture": True}
    one = predict(segmenter, paths[0], **options)
    assert str(one).splitlines()[-1].strip() == "predictions.png"
    size = pixels_of(out / "predictions.png").shape[:2]
    predict(segmenter, *paths, **options)
    seen = pixels_of(out / "predictions.png")
    assert seen.shape[:2] == (2 * size[0], size[1])
    labels = {value for path in paths for value in np.unique(read(out / f"{path.name[0]}_seg.nii.gz")) if value}
    for value in labels:
        wanted = [int(list(CLASS_COLOURS)[value - 1][place : place + 2], 16) for place in (1, 3, 5)]
        assert np.abs(seen - wanted).sum(-1).min() < 40


def test_a_picture_shows_an_image_beside_what_was_made_of_it(
    root: Path, scan: Callable[..., Path], tmp_path: Path
) -> None:
    denoiser = copy_of(root, "ixi_denoise", 1, tmp_path / "ours_denoise")
    told = predict(denoiser, scan("a.nii.gz"), out=tmp_path / "out", features=WIDTHS, device="cpu", picture=True)
    assert told.picture == tmp_path / "out" / "predictions.png"
    assert told.picture is not None
    high, wide, _ = pixels_of(told.picture).shape
    assert wide > 1.5 * high  # two panels


def test_any_kind_of_image_gives_the_labels_of_its_nifti(
    scan: Callable[..., Path], segmenter: Path, tmp_path: Path
) -> None:
    path = scan("a.nii.gz")
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, image.affine), path)
    itk_image = sitk.ReadImage(str(path))
    sitk.WriteImage(itk_image, str(tmp_path / "head.nrrd"))
    series = write_series(tmp_path / "0002_t1", voxels, image.affine)
    images = [path, tmp_path / "head.nrrd", series]
    outcome = predict(segmenter, *images, out=tmp_path / "out", features=WIDTHS, spacing=2, device="cpu")
    assert "3 images" in str(outcome)
    expected = nib.as_closest_canonical(nib.load(tmp_path / "out" / "a_seg.nii.gz"))
    assert len(np.unique(np.asarray(expected.dataobj))) > 1
    for name in ("head", "0002_t1"):
        written = nib.load(tmp_path / "out" / f"{name}_seg.nii.gz")
        found = nib.as_closest_canonical(written)
        np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)
        assert np.array_equal(np.asarray(found.dataobj), np.asarray(expected.dataobj))
        assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (1, 1)
        assert written.header.get_xyzt_units()[0] == "mm"


def test_images_of_one_name_get_folders_of_their_own(
    scan: Callable[..., Path], segmenter: Path, tmp_path: Path
) -> None:
    paths = [scan(f"data/s{n}/t1.nii.gz", seed=n) for n in (1, 2)]
    told = predict(segmenter, *paths, paths[0], out=tmp_path / "out", features=WIDTHS, spacing=3)
    assert "2 images" in str(told)
    for n in (1, 2):
        assert read(tmp_path / "out" / f"s{n}" / "t1_seg.nii.gz").shape == (34, 38, 30)
    scan("data/s1/t1.nii")
    with pytest.raises(InputError, match=r"t1.nii and .*t1.nii.gz would be written under one name: rename"):
        predict(segmenter, tmp_path / "data" / "s1", out=tmp_path / "other", features=WIDTHS)


def test_denoised_images_keep_their_grid_and_units(root: Path, scan: Callable[..., Path], tmp_path: Path) -> None:
    denoiser = copy_of(root, "ixi_denoise", 1, tmp_path / "ours_denoise")
    path = scan("a.nii.gz")
    predict(denoiser, path, out=tmp_path / "out", features=WIDTHS, device="cpu")
    image, given = nib.load(tmp_path / "out" / "a_denoised.nii.gz"), read(path)
    np.testing.assert_array_equal(image.affine, nib.load(path).affine)
    box = np.zeros(given.shape, bool)
    box[6:27, 5:33, 4:26] = True
    np.testing.assert_array_equal(read(tmp_path / "out" / "a_denoised.nii.gz")[~box], given[~box])
    box = given > 0
    change = np.abs(read(tmp_path / "out" / "a_denoised.nii.gz") - given)[box]
    assert 0 < change.mean() < 5 * given[box].std()
    with pytest.raises(InputError, match="has no setting probabilities: leave its option out"):
        predict(denoiser, path, out=tmp_path / "out", probabilities=True)


def test_embeds_with_the_pretraining_bundle(root: Path, scan: Callable[..., Path], tmp_path: Path) -> None:
    from scripts.networks import Encoder

    shutil.copytree(root / "bundles/pretrain_seqinv/configs", tmp_path / "embedder/configs")
    path = tmp_path / "embedder/configs/inference.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "patch_size": 32}))
    torch.save(Encoder(features=WIDTHS[:5]).state_dict(), tmp_path / "model.pt")
    told = predict(
        tmp_path / "embedder", scan("a.nii.gz"), out=tmp_path / "out", weights=tmp_path / "model.pt",
        features=WIDTHS[:5], spacing=2.0,
    )  # fmt: skip
    assert "a_embedding.npz" in str(told)
    assert np.load(tmp_path / "out" / "a_embedding.npz")["embedding"].shape == (8,)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"bundle": "ixi_segm"}, "bundle ixi_segm is unknown: choose pretrain_seqinv, ixi_seg"),
        ({"images": []}, "no image given"),
        ({"images": ["none.nii.gz"]}, "none.nii.gz does not exist"),
        ({"weights": "none.pt"}, "none.pt: no such weights file; make one with `python -m monai.bundle run "
                                 "--config_file bundles/ixi_seg/configs/train.json`"),
        ({"features": [4, 4, 8, 8, 16, 4]}, "does not hold this network"),
        ({"features": "small"}, "features='small' is no such list: give 6 of them"),
        ({"spacing": "fine"}, "spacing='fine' is out of bounds: give a number from 0.05 to 20 or none"),
        ({"spacing": -1}, "spacing=-1 is out of bounds: give a number from 0.05"),
        ({"patch_size": 50}, "patch_size=50 is out of bounds: give a multiple of 16"),
        ({"device": "gpu"}, "device=gpu cannot be used here: choose cpu"),
    ],
    ids=[
        *("bundle", "no image", "image", "weights", "other widths", "features", "spacing", "negative", "windows"),
        "device",
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_in_one_line(
    scan: Callable[..., Path], segmenter: Path, tmp_path: Path, changed: dict[str, Any], line: str
) -> None:
    given: dict[str, Any] = {"bundle": segmenter, "images": [scan("a.nii.gz")], "features": WIDTHS, **changed}
    bundle, images = given.pop("bundle"), given.pop("images")
    with pytest.raises(InputError) as caught:
        predict(bundle, *images, out=tmp_path / "out", **given)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_take_results_is_refused_first(
    scan: Callable[..., Path], segmenter: Path, tmp_path: Path
) -> None:
    path = scan("in/a.nii.gz")
    with pytest.raises(InputError, match=r"cannot write below .*a.nii.gz, give another folder"):
        predict(segmenter, path, out=path / "results")
    with pytest.raises(InputError, match="is the folder of the images: give another"):
        predict(segmenter, tmp_path / "in", out=tmp_path / "in")
    (segmenter / "configs" / "inference.json").write_text("{")
    with pytest.raises(InputError, match=r"inference.json is no JSON"):
        predict(segmenter, path, out=tmp_path / "out")


def test_a_failure_of_another_kind_is_passed_on_as_it_is(
    scan: Callable[..., Path], segmenter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("monai") from MemoryError("too large")

    monkeypatch.setattr("scripts.bundles.run_bundle", fail)
    with pytest.raises(RuntimeError, match="monai") as caught:
        predict(segmenter, scan("a.nii.gz"), out=tmp_path / "out", features=WIDTHS)
    assert isinstance(caught.value.__cause__, MemoryError)
    assert find_input_error(caught.value) is None


def table_in(out: Path) -> dict[str, dict[str, str]]:
    with (out / "predictions.csv").open(newline="") as stream:
        return {Path(row["image"]).name: row for row in csv.DictReader(stream)}


def test_a_bad_image_is_told_with_its_reason_and_the_others_go_on(
    scan: Callable[..., Path], segmenter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [scan(f"{name}.nii.gz", seed) for seed, name in enumerate("adf")]
    flat, dark, cut = (scan(f"{name}.nii.gz") for name in "bce")
    nib.save(nib.Nifti1Image(np.ones((40, 40), np.float32), np.eye(4)), flat)  # told by its header
    nib.save(nib.Nifti1Image(np.zeros((40, 40, 40), np.float32), np.diag([2, 2, 2, 1])), dark)  # told by its voxels
    cut.write_bytes(cut.read_bytes()[:2000])
    out, options = tmp_path / "out", {"features": WIDTHS, "spacing": 4, "device": "cpu"}
    images = sorted([*good, flat, dark, cut])
    outcome = predict(segmenter, *images, out=out, **options)
    assert [Path(row["image"]).name[0] for row in outcome.failed] == ["b", "c", "e"]
    table = table_in(out)
    assert {name[0]: row["status"] for name, row in table.items()} == {
        **dict.fromkeys("adf", "ok"),
        **dict.fromkeys("bce", "failed"),
    }
    assert "no voxel above 0" in table["c.nii.gz"]["reason"]
    assert f"failed: {cut} is cut off" in str(outcome)
    assert f"\n{dark} holds no voxel above 0" in capsys.readouterr().out
    assert {path.name[0] for path in out.glob("*_seg.nii.gz")} == {"a", "d", "f"}
    assert all((out / table[f"{name}.nii.gz"]["files"]).is_file() for name in "adf")
    # mended and typed again, its row is another
    shutil.copyfile(good[0], dark)
    assert not predict(segmenter, dark, out=out, **options).failed
    assert [table_in(out)[f"{name}.nii.gz"]["status"] for name in "bc"] == ["failed", "ok"]


def test_the_command_ends_with_status_3_where_some_failed(
    scan: Callable[..., Path], segmenter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = scan("a.nii.gz"), scan("b.nii.gz")
    bad.write_bytes(bad.read_bytes()[:2000])
    options: dict[str, Any] = {"out": str(tmp_path / "out"), "features": tuple(WIDTHS), "spacing": 4}
    with pytest.raises(SystemExit) as ended:
        networks.predict(str(segmenter), str(good), str(bad), **options)
    assert ended.value.code == 3
    assert "2 images in" in capsys.readouterr().out
    networks.predict(str(segmenter), str(good), **options)


def test_strict_and_a_single_image_stop_at_the_first(
    scan: Callable[..., Path], segmenter: Path, tmp_path: Path
) -> None:
    good, bad = scan("a.nii.gz"), scan("b.nii.gz")
    bad.write_bytes(bad.read_bytes()[:2000])
    for images, options in (([bad], {}), ([bad, good], {"strict": True})):
        with pytest.raises(InputError, match=r"b.nii.gz is cut off"):
            predict(segmenter, *images, out=tmp_path / "out", features=WIDTHS, spacing=4, **options)
    assert not (tmp_path / "out").exists()


def test_what_is_told_in_a_line_is_logged_by_no_library(
    scan: Callable[..., Path], segmenter: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = scan("a.nii.gz")
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.full(image.shape, np.nan, np.float32), image.affine), path)
    with pytest.raises(InputError, match=r"a.nii.gz holds \d+ NaN"):
        predict(segmenter, path, out=tmp_path / "out", features=WIDTHS, spacing=4)
    told = "".join(capfd.readouterr())
    assert "getting data and network ready" in told
    assert not re.search("terminating|nvImageCodec", told)


def test_what_concerns_all_images_stops_at_once(
    scan: Callable[..., Path], segmenter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [scan("a.nii.gz"), scan("b.nii.gz")]

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("scripts.io.files.os.fsync", full)
        with pytest.raises(DiskFullError, match=r"a_seg.nii.gz cannot be written \(No space left .*\): make room"):
            predict(segmenter, *images, out=tmp_path / "out", features=WIDTHS, spacing=4)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    (tmp_path / "out" / "predictions.csv").write_text("something,else\n1,2\n")
    with pytest.raises(InputError, match=r"predictions.csv is no table with the columns image, .*: move it away"):
        predict(segmenter, *images, out=tmp_path / "out", features=WIDTHS, spacing=4)


def test_ctrl_c_waits_until_a_result_stands_with_its_rows(
    scan: Callable[..., Path], segmenter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = volume_table._add_volumes

    def interrupted(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return write(*given)

    monkeypatch.setattr(volume_table, "_add_volumes", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        predict(segmenter, scan("a.nii.gz"), scan("b.nii.gz"), out=tmp_path / "out", features=WIDTHS, spacing=4)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("a_seg.nii.gz", "predictions.csv", "volumes.csv"),
    ]
    assert table_in(tmp_path / "out")["a.nii.gz"]["status"] == "ok"
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_image_that_memory_does_not_hold_is_told(
    scan: Callable[..., Path], segmenter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(self: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        return torch.empty(1 << 50)  # what the system refuses

    monkeypatch.setattr("scripts.inferers.head_windows.HeadWindowInferer.__call__", greedy)
    images = [scan("a.nii.gz"), scan("b.nii.gz")]
    outcome = predict(segmenter, *images, out=tmp_path / "out", features=WIDTHS, spacing=4)
    assert [row["reason"].partition(":")[0] for row in outcome.failed] == ["there is not enough memory for it"] * 2
    with pytest.raises(InputError, match=r"a.nii.gz: there is not enough memory for it: choose a smaller --patch_size"):
        predict(segmenter, images[0], out=tmp_path / "out", features=WIDTHS, spacing=4)


def test_labels_never_stand_without_their_row(scan: Callable[..., Path], segmenter: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "volumes.csv").write_text("something,else\n1,2\n")
    with pytest.raises(InputError, match=r"volumes.csv is no table"):
        predict(segmenter, scan("a.nii.gz"), out=tmp_path / "out", features=WIDTHS, spacing=4)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["volumes.csv"]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ('$__import__("os").system("touch PWNED").nii.gz', '$__import__("os").system("touch PWNED")_seg.nii.gz'),
        ("a#b@x%y.nii", "a#b@x%y_seg.nii.gz"),
        ("two\nlines.nii.gz", "two_lines-edc8c128_seg.nii.gz"),
        ("l" * 240 + ".nii.gz", "l" * 180 + "-148dada4_seg.nii.gz"),
        ("x\udcff.nii.gz", "x_-"),
    ],
    ids=["expression", "marks", "newline", "long", "no UTF-8"],
)
def test_no_name_of_an_image_is_code_or_leaves_the_folder(
    scan: Callable[..., Path], segmenter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, safe: str
) -> None:
    scan("a.nii.gz" if name.endswith("gz") else "a.nii").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    predict(segmenter, name, out="501", features=WIDTHS, spacing=4)
    assert set(tmp_path.iterdir()) - before == {tmp_path / "501"}
    (written,) = (tmp_path / "501").glob("*_seg.nii.gz")
    assert written.name.startswith(safe)
    assert list(table_in(Path("501"))) == [Path(printable(name)).name]


def test_the_folder_of_a_demo_tells_its_settings(
    root: Path, scan: Callable[..., Path], segmenter: Path, tmp_path: Path
) -> None:
    demo = tmp_path / "demo" / "ixi_seg" / "models"
    shutil.copytree(segmenter / "models", demo)
    model = torch.load(demo / "model.pt", weights_only=True)
    settings = {"features": str(WIDTHS), "patch_size": 32, "spacing": 4.0, "normalisation": "foreground"}
    torch.save({"model": model, "settings": settings, "epoch": 3, "iteration": 9}, demo / "checkpoint.pt")
    told: list[str] = []
    predict("ixi_seg", scan("a.nii.gz"), out=tmp_path / "out", weights=tmp_path / "demo", announce=told.append)
    assert told[1] == f"settings of its training: features {WIDTHS}, patch_size 32, spacing 4.0"
    by_hand: dict[str, Any] = {"features": WIDTHS, "patch_size": 32, "spacing": 4.0}
    predict(
        "ixi_seg", scan("a.nii.gz"), out=tmp_path / "by", weights=tmp_path / "demo/ixi_seg/models/model.pt", **by_hand
    )
    assert np.array_equal(read(tmp_path / "out" / "a_seg.nii.gz"), read(tmp_path / "by" / "a_seg.nii.gz"))
