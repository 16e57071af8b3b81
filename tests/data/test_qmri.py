from __future__ import annotations

import gzip
import logging
import re

import nibabel as nib
import numpy as np
import pytest

from scripts.data.qmri import find_subjects, load_maps
from scripts.data.units import LIMITS
from scripts.errors import InputError

KINDS = ("PDmap", "R1map", "R2starmap", "MTsat", "R2map")


def only(folder, **options):
    return find_subjects(folder.parents[1], **options)[0]


def message_of(error: pytest.ExceptionInfo[InputError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- finding


def test_subjects_come_sorted_with_groups_and_paths(cohort):
    found = find_subjects(cohort)
    assert [entry["subject"] for entry in found] == ["sub-001", "sub-002", "sub-003", "sub-004"]
    assert [entry["group"] for entry in found] == ["healthy", "stroke", None, None]
    assert found[1]["r2star"] == str(cohort / "sub-002/anat/sub-002_R2starmap.nii.gz")
    assert found[2]["r2"] is None
    assert found[3]["r2"].endswith("sub-004_R2map.nii.gz")


def test_sessions_uncompressed_files_and_derivatives(write_subject, tmp_path):
    write_subject("sub-02", root="set/derivatives/hmri", session="ses-b", suffix=".nii")
    write_subject("sub-02", root="set/derivatives/hmri", session="ses-a")
    (tmp_path / "set/sub-02/anat").mkdir(parents=True)
    (tmp_path / "set/participants.tsv").write_text("participant_id\tgroup\nsub-02\thealthy\n")
    found = find_subjects(tmp_path / "set")
    assert [(e["subject"], e["session"], e["group"]) for e in found] == [
        ("sub-02", "ses-a", "healthy"),
        ("sub-02", "ses-b", "healthy"),
    ]
    assert found[1]["pd"].endswith("derivatives/hmri/sub-02/ses-b/anat/sub-02_ses-b_PDmap.nii")
    np.testing.assert_array_equal(load_maps(found[1])[0].shape, (5, 20, 24, 22))


def test_two_pipelines_are_ambiguous(write_subject, tmp_path):
    write_subject(root="set/derivatives/a")
    write_subject(root="set/derivatives/b")
    with pytest.raises(InputError, match=r"set has maps of 2 pipelines: set dataset_dir to one, as .*/a$"):
        find_subjects(tmp_path / "set")


def test_missing_dataset_and_empty_dataset(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist: give a folder that holds sub-"):
        find_subjects(tmp_path / "nowhere")
    (tmp_path / "sub-001").mkdir()
    with pytest.raises(InputError, match=r"no subjects with maps in .*: expected sub-.*derivatives"):
        find_subjects(tmp_path)


def test_missing_map_names_subject_pattern_and_option(write_subject):
    folder = write_subject(leave_out=("MTsat",))
    with pytest.raises(InputError) as error:
        only(folder)
    text = message_of(error)
    assert text.startswith(f"sub-001 has no MTsat: add {folder}/sub-001_MTsat.nii.gz")
    assert 'missing=["mtsat"]' in text


def test_a_map_that_must_be_there_has_no_option(write_subject):
    with pytest.raises(InputError, match=r"sub-001 has no R1map: add .*_R1map\.nii\.gz$"):
        only(write_subject(leave_out=("R1map",)))
    with pytest.raises(InputError, match="give a list of mtsat and r2star"):
        only(write_subject(), missing=["r1"])


def test_all_problems_are_counted(write_subject, tmp_path):
    write_subject("sub-001")
    write_subject("sub-002", leave_out=("R1map",))
    write_subject("sub-003", leave_out=("PDmap",))
    (tmp_path / "qmri/sub-004").mkdir()
    with pytest.raises(InputError, match=r"^sub-002 has no R1map.* \(2 more subjects have problems\)$"):
        find_subjects(tmp_path / "qmri")


def test_two_files_for_one_map_are_refused(write_subject):
    folder = write_subject()
    (folder / "sub-001_acq-x_R1map.nii.gz").write_bytes((folder / "sub-001_R1map.nii.gz").read_bytes())
    with pytest.raises(InputError, match=r"are both the R1map of sub-001: keep one"):
        only(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: x[..., None].repeat(2, -1),
            r"_R1map\.nii\.gz is 4D with shape \(20, 24, 22, 2\): give one 3D",
        ),
        (
            lambda x: x[:-1],
            r"_R1map\.nii\.gz has shape \(19, 24, 22\), but sub-001_PDmap\.nii\.gz has \(20, 24",
        ),
        (lambda x: x.astype(np.complex64), r"_R1map\.nii\.gz holds complex64 voxels"),
    ],
    ids=["4D", "shape", "complex"],
)
def test_grid_problems_show_before_any_voxel_is_read(write_subject, change, message):
    with pytest.raises(InputError, match=message) as error:
        only(write_subject(change={"R1map": change}))
    message_of(error)


def test_another_affine_is_refused_and_rounding_is_not(write_subject):
    folder = write_subject()
    path = folder / "sub-001_R1map.nii.gz"
    image = nib.load(path)
    volume, affine = image.get_fdata(), image.affine
    for shift, refused in [(1e-4, False), (1.0, True)]:
        moved = affine.copy()
        moved[0, 3] += shift
        nib.save(nib.Nifti1Image(volume, moved), path)
        if refused:
            with pytest.raises(InputError, match=r"another affine than sub-001_PDmap.*up to 1 mm apart") as error:
                only(folder)
            message_of(error)
        else:
            assert only(folder)["subject"] == "sub-001"


def test_unreadable_files(write_subject):
    folder = write_subject()
    (folder / "sub-001_MTsat.nii.gz").write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"sub-001_MTsat\.nii\.gz cannot be read as NIfTI .*copy or export") as error:
        only(folder)
    message_of(error)
    folder = write_subject("sub-002", root="other", suffix=".nii")
    path = folder / "sub-002_PDmap.nii"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"sub-002_PDmap\.nii is cut off .*copy it again") as error:
        only(folder)
    message_of(error)


# --- loading


def test_maps_come_masked_in_project_units(write_subject):
    folder = write_subject()
    maps, affine = load_maps(only(folder))
    stored = np.stack([nib.load(folder / f"sub-001_{kind}.nii.gz").get_fdata() for kind in KINDS])
    brain = (stored[0] > 0) & (stored[1] > 0)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, stored * brain, rtol=1e-6)
    np.testing.assert_array_equal(affine, nib.load(folder / "sub-001_PDmap.nii.gz").affine)
    assert 0.2 < brain.mean() < 0.6


def test_any_orientation_is_turned_to_ras_with_world_coordinates_kept(write_subject):
    affine = np.array([[0, 0, -2.0, 30], [-1.5, 0, 0, 20], [0, 1.0, 0, -9], [0, 0, 0, 1]])
    folder = write_subject(affine=affine)
    maps, turned = load_maps(only(folder))
    assert nib.aff2axcodes(turned) == ("R", "A", "S")
    source = nib.load(folder / "sub-001_R1map.nii.gz").get_fdata()
    world_to_source = np.linalg.inv(affine)
    rng = np.random.default_rng(0)
    for voxel in rng.integers(0, maps.shape[1:], (50, 3)):
        i, j, k = np.rint(world_to_source @ turned @ [*voxel, 1])[:3].astype(int)
        assert maps[1][tuple(voxel)] == pytest.approx(source[i, j, k], rel=1e-6)


def test_scaled_integers_are_read_as_nibabel_reads_them(write_subject):
    folder = write_subject()
    path = folder / "sub-001_PDmap.nii.gz"
    image = nib.Nifti1Image(nib.load(path).get_fdata(), nib.load(path).affine)
    image.header.set_data_dtype(np.int16)
    nib.save(image, path)
    reference = nib.load(path)
    assert reference.dataobj.slope != 1
    maps, _ = load_maps(only(folder))
    brain = maps[1] > 0
    np.testing.assert_allclose(maps[0][brain], reference.get_fdata()[brain], rtol=1e-5)


def test_negatives_and_blown_up_fits_are_clipped(write_subject):
    def spoil(value):
        def change(volume):
            volume[10, 12, 11] = value
            return volume

        return change

    folder = write_subject(change={"R2starmap": spoil(1e6), "MTsat": spoil(-3.0), "R1map": spoil(80.0)})
    maps, _ = load_maps(only(folder))
    np.testing.assert_array_equal(maps[1:4, 10, 12, 11], np.float32([LIMITS["r1"], LIMITS["r2star"], 0]))
    assert maps.min() == 0


def test_truncated_gzip_is_named(write_subject):
    folder = write_subject()
    path = folder / "sub-001_R2starmap.nii.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    subject = only(folder)
    with pytest.raises(InputError, match=r"sub-001_R2starmap\.nii\.gz is cut off or damaged .*copy it again") as error:
        load_maps(subject)
    message_of(error)


def test_damaged_gzip_is_named(write_subject):
    folder = write_subject()
    path = folder / "sub-001_R1map.nii.gz"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"sub-001_R1map\.nii\.gz is cut off or damaged"):
        load_maps(only(folder))


def test_nan_and_infinite_voxels_are_counted_or_zeroed(write_subject):
    def spoil(volume):
        volume[10, 12, 9:12] = np.nan, np.inf, -np.inf
        return volume

    subject = only(write_subject(change={"R1map": spoil}))
    with pytest.raises(InputError, match=r'_R1map\.nii\.gz holds 3 NaN or infinite voxels: .*nan="zero"') as error:
        load_maps(subject)
    message_of(error)
    maps, _ = load_maps(subject, nan="zero")
    assert np.isfinite(maps).all()
    np.testing.assert_array_equal(maps[:, 10, 12, 9:12], 0)
    assert maps[1, 10, 12, 12] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_all_zero_map_is_refused(write_subject, kind):
    subject = only(write_subject(change={kind: np.zeros_like}))
    with pytest.raises(InputError, match=rf"_{kind}\.nii\.gz is 0 everywhere") as error:
        load_maps(subject)
    message_of(error)


def test_maps_that_share_no_brain_are_refused(write_subject):
    def half(first):
        def change(volume):
            volume[slice(None, 10) if first else slice(10, None)] = 0
            return volume

        return change

    subject = only(write_subject(change={"PDmap": half(True), "R1map": half(False)}))
    with pytest.raises(InputError, match="are positive in no common voxel"):
        load_maps(subject)


def invert(factor):
    def change(volume):
        return np.divide(factor, volume, out=np.zeros_like(volume), where=volume > 0)

    return change


@pytest.mark.parametrize(
    ("kind", "name", "change", "unit"),
    [
        ("R1map", "r1", lambda x: x * 1000, "1e-3/s"),
        ("R1map", "r1", lambda x: x / 1000, "1/ms"),
        ("R1map", "r1", invert(1000), "ms"),
        ("R1map", "r1", invert(1), "s"),
        ("R2starmap", "r2star", lambda x: x / 1000, "1/ms"),
        ("R2starmap", "r2star", invert(1000), "ms"),
        ("MTsat", "mtsat", lambda x: x / 100, "fraction"),
        ("PDmap", "pd", lambda x: x / 100, "fraction"),
        ("PDmap", "pd", lambda x: x * 12, "a.u."),
        ("R2map", "r2", lambda x: x / 1000, "1/ms"),
    ],
)
def test_foreign_units_are_named_and_converted_only_when_told(write_subject, kind, name, change, unit):
    folder = write_subject()
    right, _ = load_maps(only(folder))
    wrong = only(write_subject(change={kind: change}))
    with pytest.raises(InputError) as error:
        load_maps(wrong)
    text = message_of(error)
    assert f"of sub-001 looks like {unit} (brain median" in text
    assert f'set units={{"{name}": "{unit}"}}' in text
    maps, _ = load_maps(wrong, units={name: unit})
    # PD in arbitrary units is tied to 69 p.u. in white matter; the phantom has 70
    np.testing.assert_allclose(maps, right, rtol=0.03 if unit == "a.u." else 1e-4, atol=1e-6)


def test_an_override_that_cannot_be_true_is_refused(write_subject):
    with pytest.raises(
        InputError, match=r"brain median of 6\d\d\.\d 1/s when read as 1/ms, outside 0 to 5: correct units"
    ):
        load_maps(only(write_subject()), units={"r1": "1/ms"})


def test_a_map_of_no_known_unit_is_refused(write_subject):
    subject = only(write_subject(change={"MTsat": lambda x: x * 1e5}))
    with pytest.raises(InputError, match=r"MTsat of sub-001 looks like no known unit \(brain median .*set units"):
        load_maps(subject)


def test_missing_maps_are_replaced_as_announced(write_subject, caplog):
    full, _ = load_maps(only(write_subject(root="full")))
    brain = full[0] > 0
    with caplog.at_level(logging.WARNING):
        subject = only(write_subject(leave_out=("MTsat", "R2starmap")), missing=["mtsat", "r2star"])
    assert "1 of 1 scans have no MTsat map: taken as 0, the MT term of the signal is off" in caplog.messages
    assert "1 of 1 scans have no R2* map: taken as R2 / 0.7" in caplog.messages
    maps, _ = load_maps(subject)
    np.testing.assert_array_equal(maps[3], 0)
    np.testing.assert_allclose(maps[2], full[4] / 0.7, rtol=1e-5)

    caplog.clear()
    folder = write_subject(root="neither", leave_out=("R2starmap", "R2map"))
    maps, _ = load_maps(only(folder, missing=["r2star"]))
    assert caplog.messages == ["1 of 1 scans have no R2* map: taken as 20 1/s throughout the brain"]
    assert maps.shape[0] == 4
    np.testing.assert_array_equal(maps[2], 20.0 * brain)


def test_unmasked_maps_are_pointed_out(write_subject, caplog):
    subject = only(write_subject(affine=np.diag([10.0, 10.0, 10.0, 1.0])))
    load_maps(subject)
    assert re.search(r"sub-001: PD and R1 are positive in \d\.\d l; were the maps masked\?", caplog.text)


def test_gzip_fixture_is_what_the_truncation_tests_assume(write_subject):
    path = write_subject() / "sub-001_PDmap.nii.gz"
    assert len(gzip.decompress(path.read_bytes())) == 352 + 20 * 24 * 22 * 4
