"""What the configs make of a prediction: files on the grid of the image that a user gave, whatever the network saw."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose, CopyItemsd, Spacingd
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.errors import InputError, find_input_error
from scripts.io import write
from scripts.transforms.foreground import NormaliseForegroundd
from scripts.transforms.save_volume import SaveVolumed
from tests.io.loading import loading

TURNS = [(p, s) for p in permutations(range(3)) for s in product((1, -1), repeat=3)]
CLASSES = {"1": "grey matter", "2": "white matter"}
CONFIGS = Path(__file__).parents[2] / "bundles"


def postprocessing(bundle: str, out: Path, **settings: Any) -> Compose:
    """The postprocessing of a bundle's inference.json, with some settings changed."""
    config = json.loads((CONFIGS / bundle / "configs" / "inference.json").read_text())
    parser = ConfigParser({**config, "output_dir": str(out), **settings})
    return parser.get_parsed_content("postprocessing")


def segment(out: Path, classes: dict[str, str] = CLASSES, **settings: Any) -> Compose:
    return postprocessing("ixi_seg", out, classes=classes, **settings)


def affine_of(turn: tuple[tuple[int, ...], tuple[int, ...]], sides: tuple[float, ...]) -> NDArray[np.float64]:
    """Axes permuted and flipped, then the whole turned by some degrees and moved."""
    axes, signs = turn
    steps = np.zeros((3, 3))
    for voxel_axis, (world_axis, sign) in enumerate(zip(axes, signs, strict=True)):
        steps[world_axis, voxel_axis] = sign * sides[voxel_axis]
    angle = np.deg2rad(9)
    oblique = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = oblique @ steps, [4.0, -11.0, 7.5]
    return affine


def ball(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """An ellipsoid that touches the faces of a box, so that air is left in its corners as around a head."""
    axes = [np.linspace(-1, 1, n) for n in shape]
    return sum(x**2 for x in np.meshgrid(*axes, indexing="ij")) <= 1.2


@pytest.fixture
def scan(tmp_path: Path) -> Callable[..., Path]:
    """Write a bright textured ball in air."""

    def make(name: str = "sub-1_T1w.nii.gz", shape: Any = (14, 12, 10), turn: Any = ((1, 0, 2), (-1, 1, -1))) -> Path:
        voxels = np.zeros(shape, np.int16)
        block = voxels[2:-3, 3:-2, 1:-2]
        block[:] = np.random.default_rng(5).integers(300, 900, block.shape) * ball(block.shape)
        image = nib.Nifti1Image(voxels, affine_of(turn, (0.9, 1.1, 1.6)))
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        nib.save(image, tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def prepare() -> Callable[..., dict[str, Any]]:
    """Load, resample and normalise as the bundles do."""

    def run(path: Path, spacing: float | None = None) -> dict[str, Any]:
        steps = [*loading(), CopyItemsd("image", names="original")]
        if spacing is not None:
            steps.append(Spacingd("image", [spacing] * 3, mode="bilinear"))
        return dict(Compose([*steps, NormaliseForegroundd("image")])({"image": str(path)}))

    return run


def world(image: MetaTensor) -> Tensor:
    """Return the world coordinates of the voxels, (3, I, J, K)."""
    voxels = torch.stack(torch.meshgrid(*(torch.arange(n).double() for n in image.shape[1:]), indexing="ij"))
    return torch.einsum("ab,bijk->aijk", image.affine[:3, :3], voxels) + image.affine[:3, 3].view(3, 1, 1, 1)


def logits_of(labels: Tensor, n: int) -> Tensor:
    return torch.nn.functional.one_hot(labels.long(), n).movedim(-1, 0).float() * 6


def read(path: Any) -> NDArray[Any]:
    return np.asarray(nib.load(path).dataobj)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "volumes.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(
    "turn", TURNS, ids=lambda turn: "".join(map(str, turn[0])) + "".join("-+"[s > 0] for s in turn[1])
)
def test_labels_and_noise_go_back_exactly_to_any_orientation(
    scan: Callable[..., Path], prepare: Callable[..., dict[str, Any]], tmp_path: Path, turn: Any
) -> None:
    path = scan(shape=(9, 8, 7), turn=turn)
    raw = nib.load(path)
    head = read(path) > 0
    # the network answers with what it saw, so every voxel has to come back to where it was read
    data = prepare(path)
    z = data["image"].as_tensor()
    labels = ((z * data["image"].meta["deviation"] + data["image"].meta["mean"]).round()[0] % 3) * (z[0] > z.min())
    saved = segment(tmp_path / "out")({**data, "pred": logits_of(labels, 3)})
    written = nib.load(saved["pred_file"])
    np.testing.assert_array_equal(written.dataobj, np.where(head, read(path) % 3, 0))
    np.testing.assert_array_equal(written.affine, raw.affine)
    assert written.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(saved["pred"][0], written.dataobj)

    noise = 0.25 * (z - z.min()) + 0.1
    saved = postprocessing("ixi_denoise", tmp_path / "out")({**data, "pred": noise})
    deviation, lowest = data["image"].meta["deviation"], float(z.min())
    mean = data["image"].meta["mean"]
    expected = read(path) - deviation * (0.25 * ((read(path) - mean) / deviation - lowest) + 0.1)
    box = tuple(slice(w.min(), w.max() + 1) for w in np.nonzero(head))
    outside = np.ones(head.shape, bool)
    outside[box] = False
    got = read(saved["pred_file"])
    assert outside.any()
    np.testing.assert_array_equal(got[outside], read(path)[outside])
    np.testing.assert_allclose(got[box], expected[box], rtol=1e-5, atol=1e-3)


def test_no_noise_leaves_the_image_bit_for_bit(
    scan: Callable[..., Path], prepare: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    for spacing in (None, 2.0):
        data = prepare(path := scan(), spacing)
        saved = postprocessing("ixi_denoise", tmp_path / "out")({**data, "pred": torch.zeros_like(data["image"])})
        np.testing.assert_array_equal(read(saved["pred_file"]), read(path).astype(np.float32))
        assert nib.load(saved["pred_file"]).get_data_dtype() == np.float32


def test_resampled_results_lie_right_in_the_world(
    scan: Callable[..., Path], prepare: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = scan(shape=(30, 26, 20))
    data = prepare(path, 1.0)
    where = world(data["image"])
    own = nib.load(path)
    places = nib.affines.apply_affine(own.affine, np.stack(np.indices(own.shape), -1))
    inside = (nib.affines.apply_affine(np.linalg.inv(data["image"].affine.numpy()), places)
              - (np.array(data["image"].shape[1:]) - 1) / 2)  # fmt: skip
    inside = (np.abs(inside) <= (np.array(data["image"].shape[1:]) - 1) / 2).all(-1)
    assert inside.sum() > 3000

    # a linear function survives trilinear interpolation
    noise = (0.02 * where[0] - 0.03 * where[1] + 0.01 * where[2])[None]
    saved = postprocessing("ixi_denoise", tmp_path / "out")({**data, "pred": noise})
    expected = read(path) - data["image"].meta["deviation"] * (places @ [0.02, -0.03, 0.01])
    np.testing.assert_allclose(read(saved["pred_file"])[inside], expected[inside], atol=0.02)

    # a plane cuts the labels; voxels closer to it than the nearest voxel of the other grid may fall on either side
    middle = where.mean(dim=(1, 2, 3))[0]
    saver = segment(tmp_path / "out", {"1": "one"}, probabilities=True)
    saved = saver({**data, "pred": logits_of((where[0] > middle), 2)})
    beyond = places[..., 0] - float(middle)
    sure = inside & (np.abs(beyond) > 0.87)
    np.testing.assert_array_equal(read(saved["pred_file"])[sure], beyond[sure] > 0)

    shares = read(saved["probabilities_file"])
    assert shares.shape == (*own.shape, 2)
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares.sum(-1), 1, atol=1e-5)
    assert shares.min() >= 0
    far = (np.abs(beyond) > 1.8) & inside
    np.testing.assert_allclose(shares[far, 1], 1 / (1 + np.exp(-6 * np.sign(beyond[far]))), atol=1e-4)
    assert (shares[0, 0, 0] == [1, 0]).all()


def test_keeps_codes_units_and_rotation_but_no_words_of_the_source(
    scan: Callable[..., Path], prepare: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = scan()
    image = nib.load(path)
    image.set_qform(affine_of(((1, 0, 2), (-1, 1, -1)), (0.9, 1.1, 1.6)), code=1)
    image.set_sform(image.affine, code=4)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"Jane Doe"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"born 1970"))
    nib.save(image, path)
    data = prepare(path)
    saved = segment(tmp_path / "out", probabilities="yes")({**data, "pred": torch.rand(3, *data["image"].shape[1:])})
    for key in ("pred_file", "probabilities_file"):
        header = nib.load(saved[key]).header
        for field in ("qform_code", "sform_code", "quatern_b", "qoffset_y", "srow_z", "xyzt_units"):
            np.testing.assert_array_equal(header[field], nib.load(path).header[field])
        np.testing.assert_allclose(header.get_qform(), nib.load(path).header.get_qform(), atol=1e-6)
        assert header["descrip"] == b""
        assert len(header.extensions) == 0


def test_volumes_are_those_of_the_own_grid_and_replaced_when_run_again(
    scan: Callable[..., Path], prepare: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first, second = scan("a.nii.gz"), scan("b.nii", shape=(10, 10, 10))
    for path, share in ((first, 0.2), (second, 0.5), (first, 0.4)):
        data = prepare(path, 1.3)
        labels = 2 * (torch.rand(data["image"].shape[1:], generator=torch.Generator().manual_seed(0)) < share)
        saved = segment(out)({**data, "pred": logits_of(labels, 3)})
        counted = int((read(saved["pred_file"]) == 2).sum())
        assert counted > 0
    table = rows(out)
    assert list(table[0]) == ["image", "labels", "class", "voxels", "volume_ml"]
    assert [(row["labels"], row["class"]) for row in table] == [
        ("b_seg.nii.gz", "grey matter"),
        ("b_seg.nii.gz", "white matter"),
        ("a_seg.nii.gz", "grey matter"),
        ("a_seg.nii.gz", "white matter"),
    ]
    assert [row["image"] for row in table] == [str(second)] * 2 + [str(first)] * 2
    assert [row["voxels"] for row in table[2:]] == ["0", str(counted)]
    assert float(table[3]["volume_ml"]) == pytest.approx(counted * 0.9 * 1.1 * 1.6 / 1000, rel=1e-5)
    assert {path.name for path in out.iterdir()} == {"a_seg.nii.gz", "b_seg.nii.gz", "volumes.csv"}


def test_same_input_same_bytes_and_a_failed_write_leaves_nothing(
    scan: Callable[..., Path],
    prepare: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = prepare(scan())
    sample = {**data, "pred": torch.zeros(3, *data["image"].shape[1:])}
    for folder in ("one", "two"):
        written = segment(tmp_path / folder)(sample)
    for name in ("sub-1_T1w_seg.nii.gz", "volumes.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()

    def half(_image: Any, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(write.nib, "save", half)
    with pytest.raises(OSError, match="disk full"):
        SaveVolumed("pred", tmp_path / "three", output_postfix="seg")(written)
    assert list((tmp_path / "three").iterdir()) == []


def test_runs_within_a_monai_evaluator_for_files_of_one_name(scan: Callable[..., Path], tmp_path: Path) -> None:
    class Bright(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([-x, x], dim=1)

    paths = [scan(f"in/{subject}/t1.nii.gz", shape=(16, 14, n)) for subject, n in (("s1", 12), ("s2", 13))]
    transforms = Compose([*loading(), NormaliseForegroundd("image")])
    files = [{"image": str(path)} for path in paths]

    def run(**settings: Any) -> None:
        SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=DataLoader(Dataset(files, transforms), batch_size=1),
            network=Bright(),
            postprocessing=segment(tmp_path / "out", {"1": "bright"}, **settings),
        ).run()

    with pytest.raises(RuntimeError, match="applying transform") as caught:
        run()
    line = str(find_input_error(caught.value))
    assert line.startswith(f"{paths[1]} and {paths[0]} would both be written")
    assert "set data_root_dir" in line
    run(data_root_dir=str(tmp_path / "in"))
    for path in paths:
        voxels = read(path)
        expected = voxels > voxels[voxels > 0].mean()
        np.testing.assert_array_equal(read(tmp_path / "out" / path.parent.name / "t1_seg.nii.gz"), expected)
    assert {row["labels"] for row in rows(tmp_path / "out")} == {
        "t1_seg.nii.gz",
        "s1/t1_seg.nii.gz",
        "s2/t1_seg.nii.gz",
    }


def test_more_than_256_classes_do_not_wrap_around(
    scan: Callable[..., Path], prepare: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    data = prepare(scan(shape=(9, 8, 7)))
    logits = torch.zeros(300, *data["image"].shape[1:])
    logits[299] = 1
    names = {str(value): f"class {value}" for value in range(1, 300)}
    with pytest.raises(RuntimeError) as caught:
        segment(tmp_path / "out", names)({**data, "pred": logits})
    assert "299 is beyond uint8: set output_dtype to a larger type" in str(find_input_error(caught.value))
    wider = {"output_dtype": "int16", "output_postfix": "parts"}
    config = json.loads((CONFIGS / "ixi_seg" / "configs" / "inference.json").read_text())
    parser = ConfigParser({**config, "output_dir": str(tmp_path / "out"), "classes": names})
    parser.update({f"postprocessing::transforms::4::{key}": value for key, value in wider.items()})
    saved = parser.get_parsed_content("postprocessing")({**data, "pred": logits})
    assert Path(saved["pred_file"]).name == "sub-1_T1w_parts.nii.gz"
    assert read(saved["pred_file"]).max() == 299
    assert rows(tmp_path / "out")[298]["class"] == "class 299"


def test_what_does_not_fit_is_refused_in_one_line(
    scan: Callable[..., Path], prepare: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    path = scan()
    data = prepare(path)
    shape, out = data["image"].shape[1:], tmp_path / "out"

    def refused(bundle: str, sample: dict[str, Any], **settings: Any) -> str:
        with pytest.raises((InputError, RuntimeError)) as caught:
            postprocessing(bundle, out, **settings)({**data, **sample})
        line = str(find_input_error(caught.value))
        assert "\n" not in line
        return line

    assert "does not lie on the grid" in refused("ixi_seg", {"pred": torch.zeros(4, 4, 4, 4)})
    assert "NaN or Inf" in refused("ixi_seg", {"pred": torch.full((4, *shape), torch.nan)})
    assert "2 channels for the classes" in refused("ixi_seg", {"pred": torch.zeros(2, *shape)}, classes=CLASSES)
    assert "1 channels for the classes" in refused("ixi_seg", {"pred": torch.zeros(1, *shape)})
    assert "gives 2 channels: it needs one" in refused("ixi_denoise", {"pred": torch.zeros(2, *shape)})
    whole = {**data["original"].meta, "filename_or_obj": str(path)}
    plain = MetaTensor(data["image"].as_tensor(), meta={**whole, "affine": data["image"].affine})
    assert "NormaliseForegroundd" in refused("ixi_denoise", {"image": plain, "pred": torch.zeros(1, *shape)})
    unknown = MetaTensor(plain.as_tensor(), meta={**plain.meta, "filename_or_obj": ""})
    assert "does not know its file" in refused("ixi_seg", {"image": unknown, "pred": torch.zeros(4, *shape)})
    assert "probabilities='maybe'" in refused("ixi_seg", {}, probabilities="maybe")
    assert not out.exists()
    out.mkdir()
    (out / "volumes.csv").write_text("a,b\n1,2\n")
    assert "volumes.csv is no table" in refused("ixi_seg", {"pred": torch.zeros(4, *shape)})
    with pytest.raises(InputError, match="is a file: give a folder"):
        SaveVolumed("pred", path, output_postfix="seg")
