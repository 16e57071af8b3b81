"""The real server by REST, as 3D Slicer's plugin talks to it. The tests go on from one to the next, as a lab does."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import mlflow
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name that its own pages use
import torch

from scripts.package import unpack_bundle
from scripts.weights.provenance import file_sha256
from tests.io.test_read import write_series
from tests.label.conftest import Server

GRID = 1e-4  # mm, the rounding of a NIfTI header


@pytest.fixture(scope="module")
def words(studies: Path, archives: dict[str, Path]) -> list[str]:
    """The studies are given by a link."""
    link = studies.parent / "link"
    if not link.exists():  # the tests of this module may come in two turns
        link.symlink_to(studies)
    return ["--studies", str(link), "--bundles", ",".join(map(str, archives.values()))]


@pytest.fixture(scope="module")
def server(start: Callable[..., Server], words: list[str]) -> Server:
    return start(*words, anew=True)


@pytest.fixture(scope="module")
def app(studies: Path) -> Path:
    return studies.parent / "label_app"


@pytest.fixture(scope="module")
def expected(
    archives: dict[str, Path],
    studies: Path,
    run_bundle: Callable[..., None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, str], nib.Nifti1Image]:
    """What ``monai.bundle run`` makes of an image, by the archive unpacked elsewhere."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    folders = {name: unpack_bundle(path, elsewhere) for name, path in archives.items()}

    def make(name: str, image: str) -> nib.Nifti1Image:
        out = tmp_path_factory.mktemp("out")
        config = folders[name] / "configs" / "inference.json"
        run_bundle(config, elsewhere, image=str(studies / f"{image}.nii.gz"), output_dir=str(out))
        (found,) = out.rglob("*.nii.gz")
        return nib.load(found)

    return make


def image_of(content: bytes, folder: Path) -> nib.Nifti1Image:
    path = folder / "answer.nii.gz"
    path.write_bytes(content)
    return nib.load(path)


def test_tells_what_it_serves(server: Server, archives: dict[str, Path], studies: Path) -> None:
    told = server.log.read_text()
    assert f"Serving at {server.address} (research only, not for clinical use)" in told
    assert str(studies) in told
    assert "ixi_seg: " in told
    assert "seqinv, T1w, embedded data" in told
    assert "WARNING" not in told


def test_web_pages_of_other_origins_get_no_leave_to_read(server: Server) -> None:
    request = urllib.request.Request(server.address + "/info/", headers={"Origin": "http://elsewhere.example"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert reply.headers["access-control-allow-origin"] is None


def test_on_this_machine_alone_nobody_is_asked_but_strangers_names_are_refused(server: Server) -> None:
    assert server.get("/auth/").json == {"enabled": False}
    assert "token" not in server.log.read_text()
    port = server.address.rpartition(":")[2]
    for name, status in (("localhost", 200), ("[::1]", 200), ("evil.example", 400), ("203.0.113.7", 400), ("", 400)):
        assert server.raw("GET", "/info/", headers={"Host": f"{name}:{port}" if name else ""}).status == status, name


def test_models_are_listed_for_what_they_are(server: Server) -> None:
    models = server.get("/info/").json["models"]
    assert set(models) == {"ixi_seg", "ixi_denoise"}
    assert models["ixi_seg"]["labels"] == {"grey matter": 1, "white matter": 2, "csf": 3}
    assert models["ixi_seg"]["type"] == "segmentation"
    assert models["ixi_denoise"]["type"] == "others"
    assert not models["ixi_denoise"]["labels"]
    assert "Returns an image, not labels" in models["ixi_denoise"]["description"]
    assert set(server.get("/info/").json["trainers"]) == {"ixi_seg"}


def test_labels_are_those_of_the_bundle_on_the_images_own_grid(
    server: Server, expected: Callable[[str, str], nib.Nifti1Image], studies: Path, tmp_path: Path
) -> None:
    answer = server.infer("ixi_seg", "head1")
    assert answer.status == 200, answer.content
    found, image = image_of(answer.content, tmp_path), nib.load(studies / "head1.nii.gz")
    assert nib.aff2axcodes(image.affine) == ("P", "S", "R")
    assert found.shape == image.shape
    np.testing.assert_allclose(found.affine, image.affine, atol=GRID)
    own = expected("ixi_seg", "head1")
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(own.dataobj))
    assert len(np.unique(np.asarray(found.dataobj))) > 1


def test_an_uploaded_image_and_slicers_format(server: Server, studies: Path, tmp_path: Path) -> None:
    answer = server.infer("ixi_seg", "head1")
    labels = np.asarray(image_of(answer.content, tmp_path).dataobj)
    sent = server.form(
        "POST",
        "/infer/ixi_seg?output=image",
        params=json.dumps({"result_extension": ".nrrd"}),
        file=studies / "head1.nii.gz",
    )
    assert sent.status == 200, sent.content
    (tmp_path / "answer.nrrd").write_bytes(sent.content)
    nrrd = sitk.ReadImage(str(tmp_path / "answer.nrrd"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(nrrd).transpose(), labels)
    step = nib.load(studies / "head1.nii.gz").affine[:3, 0]
    np.testing.assert_allclose(
        np.array(nrrd.TransformIndexToPhysicalPoint((1, 0, 0))) - np.array(nrrd.GetOrigin()),
        step * [-1, -1, 1],
        atol=GRID,
    )


def test_the_denoiser_returns_an_image(
    server: Server, expected: Callable[[str, str], nib.Nifti1Image], tmp_path: Path
) -> None:
    answer = server.infer("ixi_denoise", "head2")
    assert answer.status == 200, answer.content
    found, own = image_of(answer.content, tmp_path), expected("ixi_denoise", "head2")
    assert np.issubdtype(found.get_data_dtype(), np.floating)
    np.testing.assert_array_equal(found.get_fdata(), own.get_fdata())
    np.testing.assert_allclose(found.affine, own.affine, atol=GRID)


def test_a_dicom_series_in_the_studies_or_sent_file_by_file(
    server: Server, studies: Path, expected: Callable[[str, str], nib.Nifti1Image], tmp_path: Path
) -> None:
    voxels = np.asarray(nib.load(studies / "head1.nii.gz").dataobj)
    image = nib.Nifti1Image((500 * voxels / voxels.max()).astype(np.int16), nib.load(studies / "head1.nii.gz").affine)
    series = write_series(studies / "series1", np.asarray(image.dataobj), image.affine)
    nib.save(image, studies / "whole1.nii.gz")
    answer = server.infer("ixi_seg", "series1")
    assert answer.status == 200, answer.content
    found = image_of(answer.content, tmp_path)
    upright, truth = (nib.as_closest_canonical(one) for one in (found, expected("ixi_seg", "whole1")))
    np.testing.assert_allclose(upright.affine, truth.affine, atol=1e-3)  # a series is stacked along its normal
    assert (np.asarray(upright.dataobj) == np.asarray(truth.dataobj)).mean() > 0.999  # its affine is rounded
    sent = server.form("PUT", "/session/", files=sorted(series.iterdir()))
    assert sent.status == 200, sent.content
    session = sent.json["session_id"]
    again = server.form("POST", f"/infer/ixi_seg?session_id={session}&output=image", params="{}")
    assert again.status == 200, again.content
    np.testing.assert_array_equal(np.asarray(image_of(again.content, tmp_path).dataobj), np.asarray(found.dataobj))


@pytest.mark.parametrize(
    ("model", "image", "status", "reason"),
    [
        ("ixi_seg", "broken", 422, "broken.nii.gz"),
        ("ixi_seg", "nobody", 404, "nobody"),
        ("arc_lesion", "head1", 404, "arc_lesion"),
    ],
)
def test_what_cannot_be_done_is_answered_with_its_reason(
    server: Server, model: str, image: str, status: int, reason: str
) -> None:
    answer = server.infer(model, image)
    assert answer.status == status
    assert reason in answer.detail
    assert "\n" not in answer.detail


def test_weights_that_lack_a_tensor_are_refused_not_half_loaded(server: Server, app: Path) -> None:
    models = app / "model" / "ixi_seg" / "models"
    state = torch.load(models / "model.pt", weights_only=True)
    torch.save(dict(list(state.items())[:-1]), models / "other.pt")
    answer = server.infer("ixi_seg", "head1", model_filename="other.pt")
    (models / "other.pt").unlink()
    assert answer.status == 422
    assert "other.pt" in answer.detail


def test_an_unknown_format_is_refused(server: Server) -> None:
    answer = server.infer("ixi_seg", "head1", result_extension=".jpg")
    assert answer.status == 422
    assert ".jpg" in answer.detail


def test_training_without_labels_says_what_to_do(server: Server) -> None:
    answer = server.post("/train/ixi_seg", {"max_epochs": 1})
    assert answer.status == 422, answer.content
    assert "no image has a final label" in answer.detail
    assert server.post("/train/ixi_denoise").status == 422
    assert server.post("/train/nothing").status == 404


def test_several_images_at_once(server: Server, studies: Path) -> None:
    (studies / "broken.nii.gz").unlink()
    assert server.post("/batch/infer/ixi_seg?images=unlabeled", {"max_batch_size": 2}).status == 200
    done = server.until_idle("/batch/infer")
    assert done["status"] == "DONE", done
    assert len(list((studies / "labels" / "original").glob("*.nii.gz"))) == 2


def test_a_label_on_another_grid_is_refused_and_the_one_there_is_kept(
    server: Server, studies: Path, tmp_path: Path
) -> None:
    image = nib.load(studies / "head3.nii.gz")
    labels = np.zeros(image.shape, np.uint8)
    moved = image.affine.copy()
    moved[:3, 3] += 5
    where = "/datastore/label?image=head3&tag=final"
    kept = studies / "labels" / "final" / "head3.nii.gz"
    for name, wrong, reason in (
        ("cut", nib.Nifti1Image(labels[:-1], image.affine), "has shape"),
        ("moved", nib.Nifti1Image(labels, moved), "corners up to 8.66 mm apart"),
        ("right", nib.Nifti1Image(labels, image.affine), ""),
        ("again", nib.Nifti1Image(labels[:-1], image.affine), "has shape"),
    ):
        path = tmp_path / f"{name}.nii.gz"
        nib.save(wrong, path)
        answer = server.form("PUT", where, params="{}", label=path)
        assert answer.status == (422 if reason else 200), answer.content
        assert not reason or (answer.detail.startswith("the label of head3 ") and reason in answer.detail)
        assert kept.is_file() == (name in ("right", "again"))
    assert nib.load(kept).shape == image.shape
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(b"no image")
    answer = server.form("PUT", where, params="{}", label=damaged)
    assert answer.status == 422
    assert "the label of head3 cannot be read" in answer.detail
    answer = server.send("DELETE", where.replace("?image=", "?id="))
    assert answer.status == 200, answer.content


def test_corrected_labels_train_the_model_that_is_served(
    server: Server,
    studies: Path,
    app: Path,
    tmp_path: Path,
    start: Callable[..., Server],
    words: list[str],
) -> None:
    weights = app / "model" / "ixi_seg" / "models" / "model.pt"
    before = file_sha256(weights)
    first = server.infer("ixi_seg", "head3")
    for name in ("head1", "head2"):
        image = nib.load(studies / f"{name}.nii.gz")
        corrected = np.zeros(image.shape, np.uint8)
        corrected[np.asarray(image.dataobj) > np.median(np.asarray(image.dataobj))] = 2
        path = tmp_path / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(corrected, image.affine), path)
        stored = server.form("PUT", f"/datastore/label?image={name}&tag=final", params="{}", label=path)
        assert stored.status == 200, stored.content
        assert (studies / "labels" / "final" / f"{name}.nii.gz").is_file()
    asked = server.post("/train/ixi_seg", {"max_epochs": 2, "epoch_length": 2, "val_split": 0.5})
    assert asked.status == 200, asked.content
    done = server.until_idle("/train/")
    assert done["status"] == "DONE", done
    told = json.loads((app / "model" / "ixi_seg" / "retrained.json").read_text())
    assert (told["images"], told["validation_images"], told["epochs"]) == (1, 1, 2)
    after = file_sha256(weights)
    assert after != before
    second = server.infer("ixi_seg", "head3")
    assert second.status == 200
    labels = [np.asarray(image_of(answer.content, tmp_path).dataobj) for answer in (first, second)]
    assert (labels[0] != labels[1]).any()
    runs = mlflow.MlflowClient(f"sqlite:///{app / 'mlruns.db'}")
    (run,) = runs.search_runs([runs.get_experiment_by_name("label_ixi_seg").experiment_id])
    assert run.info.status == "FINISHED"

    assert server.stop() in (0, -2, 130)
    again = start(*words)
    assert f"weights {after[:12]}" in again.log.read_text()
    assert "with 1 labelled images" in again.log.read_text()
    third = again.infer("ixi_seg", "head3")
    np.testing.assert_array_equal(np.asarray(image_of(third.content, tmp_path).dataobj), labels[1])

    # without validation, from an untrained decoder, all labels
    asked = again.post("/train/ixi_seg", {"max_epochs": 1, "epoch_length": 2, "val_split": 0, "pretrained": False})
    assert asked.status == 200, asked.content
    done = again.until_idle("/train/")
    assert done["status"] == "DONE", done
    told = json.loads((app / "model" / "ixi_seg" / "retrained.json").read_text())
    assert (told["images"], told["validation_images"]) == (2, 0)
    assert file_sha256(weights) != after
