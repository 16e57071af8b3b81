from __future__ import annotations

import csv
import gzip
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.cohort import qmri_cohort as qmri
from scripts.cohort import qmri_files
from scripts.data import qmri as loader
from scripts.errors import InputError
from tests.commands.client import Commands

SPACING = 4.0
UNITS = {"PDmap": "p.u.", "R1map": "1/s", "R2starmap": "1/s", "R2map": "1/s", "MTsat": "p.u."}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Path:
    out = tmp_path_factory.mktemp("cohort") / "qmri"
    with commands.spawning():
        return qmri.make_qmri_cohort(out, 3, 5, SPACING, jobs=2, progress=False)


@pytest.fixture
def copy(cohort: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cohort, tmp_path / "copy"))


def read(root: Path, subject: str, suffix: str) -> np.ndarray:
    return np.asarray(nib.load(root / subject / "anat" / f"{subject}_{suffix}.nii.gz").dataobj)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def participants(root: Path) -> list[dict[str, str]]:
    with (root / "participants.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_bytes_depend_on_the_seed_alone(cohort: Path, tmp_path: Path) -> None:
    alone = qmri.make_qmri_cohort(tmp_path / "alone", 2, 5, SPACING, jobs=1, progress=False)
    for name in ("sub-001", "sub-002"):
        assert contents(alone / name) == contents(cohort / name)
    other = qmri.make_qmri_cohort(tmp_path / "other", 1, 6, SPACING, progress=False)
    same_names = contents(other / "sub-001"), contents(cohort / "sub-001")
    assert same_names[0].keys() == same_names[1].keys()
    assert all(same_names[0][key] != same_names[1][key] for key in same_names[0] if key.endswith(".gz"))


def test_subjects_differ(cohort: Path) -> None:
    first, second = read(cohort, "sub-001", "R1map"), read(cohort, "sub-003", "R1map")
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.99


def test_gzip_headers_hold_neither_name_nor_time(cohort: Path) -> None:
    for path in cohort.rglob("*.nii.gz"):
        header = path.read_bytes()[:8]
        assert header[:2] == b"\x1f\x8b"
        assert header[3] == 0
        assert header[4:8] == bytes(4)


def test_maps_are_float_ras_and_zero_outside_one_brain(cohort: Path) -> None:
    for suffix, unit in UNITS.items():
        stem = cohort / "sub-002" / "anat" / f"sub-002_{suffix}"
        image = nib.load(f"{stem}.nii.gz")
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        np.testing.assert_allclose(image.header.get_zooms(), SPACING)
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
        values = image.get_fdata(dtype=np.float32)
        brain = read(cohort, "sub-002", "dseg") > 0
        assert not values[~brain].any()
        assert (values[brain] > 0).mean() > 0.99
        assert json.loads(Path(f"{stem}.json").read_text(encoding="utf-8"))["Units"] == unit


def test_stored_integers_are_fine_enough(cohort: Path) -> None:
    for suffix in UNITS:
        image = nib.load(cohort / "sub-001" / "anat" / f"sub-001_{suffix}.nii.gz")
        values = image.get_fdata()
        typical = np.median(values[values > 0])
        assert image.dataobj.slope / 2.0 < 1e-3 * typical
        assert values.max() < 32767 * image.dataobj.slope


def test_participants_and_description_tell_what_is_there(cohort: Path) -> None:
    rows = participants(cohort)
    assert [row["participant_id"] for row in rows] == ["sub-001", "sub-002", "sub-003"]
    assert [row["group"] for row in rows] == ["healthy", "stroke", "healthy"]
    for row in rows:
        mask = cohort / row["participant_id"] / "anat" / f"{row['participant_id']}_desc-lesion_mask.nii.gz"
        assert mask.is_file() == (row["group"] == "stroke")
        labels = read(cohort, row["participant_id"], "dseg")
        assert set(np.unique(labels)) == ({0, 1, 2, 3, 4, 5} if mask.is_file() else {0, 1, 2, 3, 4})
        volume = (labels == 5).sum() * SPACING**3 / 1000.0
        assert float(row["lesion_volume"]) == pytest.approx(volume, rel=1e-4)
        if mask.is_file():
            np.testing.assert_array_equal(read(cohort, row["participant_id"], "desc-lesion_mask"), labels == 5)
    description = json.loads((cohort / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert "simulated" in description["Name"]
    assert set(json.loads((cohort / "participants.json").read_text())) == set(rows[0]) - {"participant_id"}


def test_the_loader_of_real_data_reads_it_in_project_units(cohort: Path) -> None:
    entries = loader.find_subjects(cohort)
    assert [entry["group"] for entry in entries] == ["healthy", "stroke", "healthy"]
    maps, _ = loader.load_maps(entries[1])
    for index, suffix in enumerate(("PDmap", "R1map", "R2starmap", "MTsat", "R2map")):
        np.testing.assert_allclose(maps[index], read(cohort, "sub-002", suffix), rtol=1e-6)


def test_an_interrupted_run_continues(cohort: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(copy / "sub-002")
    (copy / "participants.tsv").unlink()
    kept = (copy / "sub-001" / "anat" / "sub-001_R1map.nii.gz").stat().st_mtime_ns
    written: list[str] = []

    def fail_at_third(path: Path, *args: object, **settings: object) -> None:
        written.append(path.name)
        if len(written) == 3:
            raise OSError("no space left")
        path.write_bytes(b"half")

    with monkeypatch.context() as patch:
        patch.setattr(qmri_files, "write_nifti", fail_at_third)
        with pytest.raises(OSError, match="no space left"):
            qmri.make_qmri_cohort(copy, 3, 5, SPACING, progress=False)
    assert not (copy / "sub-002").exists()
    qmri.make_qmri_cohort(copy, 3, 5, SPACING, progress=False)
    assert contents(copy) == contents(cohort)
    assert (copy / "sub-001" / "anat" / "sub-001_R1map.nii.gz").stat().st_mtime_ns == kept


def test_a_cohort_can_grow_but_not_shrink_or_change(copy: Path) -> None:
    qmri.make_qmri_cohort(copy, 4, 5, SPACING, progress=False)
    assert len(participants(copy)) == 4
    with pytest.raises(InputError, match="holds 4 subjects and 2 were asked for"):
        qmri.make_qmri_cohort(copy, 2, 5, SPACING, progress=False)
    with pytest.raises(InputError, match=r"made with seed 5, spacing 4\.0: .*another --out"):
        qmri.make_qmri_cohort(copy, 4, 6, 3.0, progress=False)


def test_folders_with_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="holds other files"):
        qmri.make_qmri_cohort(tmp_path, 1, 0, SPACING, progress=False)
    with pytest.raises(InputError, match="is a file"):
        qmri.make_qmri_cohort(tmp_path / "thesis.txt", 1, 0, SPACING, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subjects": 0}, "subjects is 0"),
        ({"subjects": 2.5}, r"subjects is 2\.5"),
        ({"seed": -1}, "seed is -1"),
        ({"spacing": 0.2}, r"spacing is 0\.2 mm"),
        ({"spacing": "fine"}, "spacing is fine"),
        ({"stroke_fraction": 1.5}, r"stroke_fraction is 1\.5"),
        ({"jobs": 0}, "jobs is 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_settings_out_of_range_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    settings = {"subjects": 1, "seed": 0, "spacing": SPACING, "progress": False} | change
    with pytest.raises(InputError, match=message):
        qmri.make_qmri_cohort(tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_it_does_and_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    qmri.cohort_qmri(str(tmp_path / "out"), subjects=1, seed=0, spacing=8.0)
    told = capsys.readouterr().out
    assert told.startswith("Simulating 1 subjects at 8 mm, seed 0")
    assert str(tmp_path / "out" / "participants.tsv") in told
    assert "Next: python -m monai.bundle run" in told


def test_volumes_decompress_to_whole_files(cohort: Path) -> None:
    raw = gzip.decompress((cohort / "sub-001" / "anat" / "sub-001_dseg.nii.gz").read_bytes())
    assert len(raw) == 352 + int(np.prod(read(cohort, "sub-001", "dseg").shape))
