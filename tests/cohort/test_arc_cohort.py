"""The embedded ARC cohort: one world for all modalities, sidecars, contrasts, runs cut off, the command."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from scripts.cohort import arc_cohort as arc
from scripts.cohort.head import head_grid
from scripts.cohort.lesion import VOLUMES_ML
from scripts.cohort.person import draw_person
from scripts.cohort.scanner import Head, make_head
from scripts.cohort.template import TISSUES
from scripts.data.arc import arc_subjects, find_arc
from scripts.errors import InputError

SPACING = 4.0
SETTINGS: dict[str, Any] = {"seed": 0, "spacing": SPACING, "progress": False}


@pytest.fixture(scope="module")
def cohort(small_cohorts: dict[str, Path]) -> Path:
    """Seven subjects, made with these settings."""
    return small_cohorts["arc"]


@pytest.fixture(scope="module")
def heads() -> dict[int, Head]:
    """The second and the fifth have a FLAIR."""
    grid = head_grid(SPACING)
    return {number: make_head(draw_person(20_000 + number, 0, 1.0), 0, grid, 3.0) for number in (2, 5)}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def on_grid(path: str | Path, affine: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Interpolate an image at the voxels of a grid."""
    image = nib.load(path)
    world = nib.affines.apply_affine(affine, np.indices(shape).reshape(3, -1).T)
    place = nib.affines.apply_affine(np.linalg.inv(image.affine), world).T
    return np.asarray(ndimage.map_coordinates(image.get_fdata(), place, order=1)).reshape(shape)


def images(cohort: Path, number: int) -> dict[str, Path]:
    found = (cohort / f"sub-M{2000 + number}" / f"ses-{1200 + 7 * number}" / "anat").glob("*.nii.gz")
    return {path.name.removesuffix(".nii.gz").rsplit("_", 1)[1]: path for path in found}


def test_seven_subjects_have_some_of_each(cohort: Path) -> None:
    held = [sorted(images(cohort, number)) for number in range(1, 8)]
    assert all("T2w" in one for one in held)
    assert 0 < sum("T1w" not in one for one in held) < 3
    assert sum("FLAIR" in one for one in held) == 3
    subjects = [path.parent.name for path in cohort.glob("sub-*/ses-*")]
    assert sorted(subjects) == [f"sub-M200{i}" for i in (1, 2, 3, 3, 4, 5, 6, 7)], (
        "the third has a session without mask"
    )
    assert len(list((cohort / "derivatives").rglob("*_mask.nii.gz"))) == 7


def test_images_of_a_session_lie_on_other_grids_in_one_world(cohort: Path, heads: dict[int, Head]) -> None:
    for number, head in heads.items():
        anatomy = head.anatomy
        found = images(cohort, number)
        assert len({np.asarray(nib.load(path).affine).tobytes() for path in found.values()}) == 3
        tissue = anatomy.fractions / anatomy.fractions.sum(0)
        white, csf = (tissue[TISSUES.index(name)] > 0.9 for name in ("white", "csf"))
        healthy = head.lesion.extent < 0.01 if head.lesion else np.ones(len(white), bool)
        values = {name: on_grid(path, anatomy.grid.affine, anatomy.grid.shape) for name, path in found.items()}
        ratio = {
            name: seen[anatomy.brain][csf & healthy].mean() / seen[anatomy.brain][white & healthy].mean()
            for name, seen in values.items()
        }
        assert ratio["T1w"] < 0.6, "only where the head lies as in the world is fluid darker than white matter"
        assert ratio["FLAIR"] < 0.7
        assert ratio["T2w"] > 1.8


def test_masks_are_the_lesions_that_were_grown(cohort: Path, heads: dict[int, Head]) -> None:
    for number, head in heads.items():
        entry = next(one for one in find_arc(cohort, "T2w") if one["subject"] == f"sub-M{2000 + number}")
        mask = nib.load(entry["label"])
        assert set(np.unique(mask.get_fdata())) == {0, 1}
        assert head.lesion is not None
        extent = head.anatomy.volume(head.lesion.extent)
        world = nib.affines.apply_affine(mask.affine, np.indices(mask.shape).reshape(3, -1).T)
        place = nib.affines.apply_affine(np.linalg.inv(head.anatomy.grid.affine), world).T
        expected = ndimage.map_coordinates(extent, place, order=1, mode="grid-constant")
        clear = abs(expected - 0.5) > 1e-3
        np.testing.assert_array_equal(mask.get_fdata().reshape(-1)[clear], expected[clear] > 0.5)


def test_lesions_are_of_the_volumes_planned(cohort: Path) -> None:
    for number, entry in enumerate(find_arc(cohort, "T2w"), start=1):
        volume = nib.load(entry["label"]).get_fdata().sum() * SPACING**3 / 1000
        plan = draw_person(20_000 + number, 0, 1.0).lesion
        assert plan is not None
        assert VOLUMES_ML[0] <= plan.volume_ml <= VOLUMES_ML[1]
        assert 0.5 * plan.volume_ml - 1 < volume < 1.6 * plan.volume_ml + 1


def test_every_image_has_a_sidecar_with_its_timing(cohort: Path) -> None:
    paths = sorted(cohort.glob("sub-*/ses-*/anat/*.nii.gz"))
    assert len(paths) == 7 + 6 + 3 + 1
    for path in paths:
        told = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        protocol = arc.SEQUENCES[path.name.removesuffix(".nii.gz").rsplit("_", 1)[1]].protocol
        assert told["MagneticFieldStrength"] == 3
        assert (told["EchoTime"], told["RepetitionTime"]) == (protocol["te"], protocol["tr"])
        assert told.get("InversionTime") == protocol.get("ti")
        assert told.get("FlipAngle") == protocol.get("flip_angle")


def test_a_run_cut_off_leaves_no_half_subject_to_be_found(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, write = tmp_path / "arc", arc._write_mask
    names: list[str] = []

    def cut_off(path: Path, number: int, *args: Any) -> None:
        names.append(path.name)
        if number == 2:
            raise OSError("no space left")
        write(path, number, *args)

    with monkeypatch.context() as patch:
        patch.setattr(arc, "_write_mask", cut_off)
        with pytest.raises(OSError, match="no space left"):
            arc.make_arc_cohort(folder, 3, jobs=1, **SETTINGS)
    assert (folder / ".part-sub-M2002").is_dir()
    assert "sub-M2001" in arc_subjects(folder)
    assert "sub-M2002" not in arc_subjects(folder)
    made = len(arc_subjects(folder))
    kept = next((folder / "sub-M2001").rglob("*.nii.gz")).stat().st_mtime_ns
    arc.make_arc_cohort(folder, 3, **SETTINGS)
    assert made < 3
    assert next((folder / "sub-M2001").rglob("*.nii.gz")).stat().st_mtime_ns == kept
    ours, theirs = contents(folder), contents(cohort)
    assert theirs.pop("participants.tsv").startswith(ours.pop("participants.tsv"))
    more = re.compile("sub-M200[4-7]")
    assert ours == {name: content for name, content in theirs.items() if not more.search(name)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"subjects": 0}, "subjects is 0"),
        ({"subjects": 1000}, "subjects is 1000"),
        ({"seed": -1}, "seed is -1"),
        ({"spacing": 0}, "spacing is 0 mm"),
        ({"spacing": "fine"}, "spacing is fine mm"),
        ({"jobs": 0}, "jobs is 0"),
    ],
    ids=["nobody", "too many", "seed", "no voxel", "no number", "jobs"],
)
def test_settings_out_of_range_are_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    settings = {"subjects": 1, **SETTINGS, **change}
    with pytest.raises(InputError, match=told):
        arc.make_arc_cohort(tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_other_cohorts_are_refused(cohort: Path) -> None:
    with pytest.raises(InputError, match="made with seed 0: use these settings"):
        arc.make_arc_cohort(cohort, 7, **{**SETTINGS, "seed": 3})


def test_the_command_says_what_it_does_and_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arc.cohort_arc(str(tmp_path / "out"), subjects=1, spacing=8.0)
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("Simulating heads of 1 stroke subjects at 8 mm, seed 0")
    assert str(tmp_path / "out") in told[1]
    config = "bundles/arc_lesion/configs/train.json"
    assert told[2] == f"Next: python -m monai.bundle run --config_file {config} --dataset_dir {tmp_path / 'out'}"
    assert Path(config).is_file()
    with pytest.raises(InputError, match="spacing is 0 mm"):
        arc.cohort_arc(str(tmp_path / "other"), spacing=0)
