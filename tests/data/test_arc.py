from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scripts.data.arc import arc_subjects, find_arc
from scripts.errors import InputError

MASKS = "derivatives/lesion_masks"
FLAIRS = ("acq-tir2_run-7_FLAIR", "acq-spcir3_run-6_FLAIR")


@pytest.fixture
def root(tmp_path: Path, write_arc: Callable[..., None]) -> Path:
    """Three subjects with a mask, in another order than their names; further images, and sessions without a mask."""
    write_arc("sub-M2054", "ses-1598", t2w="acq-spc3_run-5_T2w", others=("acq-tfl3p2_run-4_T1w", *FLAIRS))
    write_arc("sub-M2054", "ses-0001", mask=False, others=("acq-tfl3_run-1_T1w", "acq-aaa_run-1_FLAIR"))
    write_arc("sub-M2002", "ses-1441", t2w="acq-tse3_run-4_T2w", others=("acq-tfl3_run-3_T1w",))
    # two T2w in one session: only that of the mask's name is its reference
    write_arc("sub-M2002", "ses-1441", t2w="acq-spc3_run-1_T2w", mask=False)
    write_arc("sub-M2001", "ses-1253")
    write_arc("sub-M2003", "ses-1000", mask=False, others=("acq-tfl3_run-3_T1w",))
    (tmp_path / "arc" / MASKS / "sub-M2001/ses-1253/anat/sub-M2001_ses-1253_T2w_desc-lesion_mask.json").write_text("{}")
    return tmp_path / "arc"


def test_one_mask_a_subject_and_its_own_t2w(root: Path) -> None:
    found = find_arc(root)
    stems = {
        "sub-M2001": "ses-1253/anat/sub-M2001_ses-1253_acq-spc3_run-3_T2w",
        "sub-M2002": "ses-1441/anat/sub-M2002_ses-1441_acq-tse3_run-4_T2w",
        "sub-M2054": "ses-1598/anat/sub-M2054_ses-1598_acq-spc3_run-5_T2w",
    }
    assert found == [
        {
            "subject": subject,
            "site": "ARC",
            "modality": "T2w",
            "image": f"{root}/{subject}/{stem}.nii.gz",
            "label": f"{root}/{MASKS}/{subject}/{stem}_desc-lesion_mask.nii.gz",
        }
        for subject, stem in stems.items()
    ]
    assert arc_subjects(root) == list(stems)
    assert all("label" not in entry for entry in find_arc(root, labels=False))


def test_other_modalities_come_from_the_session_of_the_mask(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        found = find_arc(root, "T1w")
    assert [Path(entry["image"]).name for entry in found] == [
        "sub-M2002_ses-1441_acq-tfl3_run-3_T1w.nii.gz",
        "sub-M2054_ses-1598_acq-tfl3p2_run-4_T1w.nii.gz",
    ]
    assert [Path(entry["label"]).name for entry in found] == [
        "sub-M2002_ses-1441_acq-tse3_run-4_T2w_desc-lesion_mask.nii.gz",
        "sub-M2054_ses-1598_acq-spc3_run-5_T2w_desc-lesion_mask.nii.gz",
    ]
    assert caplog.messages == ["1 of 3 subjects with a lesion mask have no T1w"]
    (entry,) = find_arc(root, "FLAIR")
    assert Path(entry["image"]).name == "sub-M2054_ses-1598_acq-spcir3_run-6_FLAIR.nii.gz"


def test_of_equal_images_the_last_run_is_taken(tmp_path: Path, write_arc: Callable[..., None]) -> None:
    write_arc(others=("acq-tfl3p2_run-10_T1w", "acq-tfl3p2_run-9_T1w", "acq-zzz_run-2_T1w"))
    (entry,) = find_arc(tmp_path / "arc", "T1w")
    assert Path(entry["image"]).name == "sub-M2001_ses-1253_acq-tfl3p2_run-10_T1w.nii.gz"


def test_a_mask_without_its_t2w_is_named(root: Path, write_arc: Callable[..., None]) -> None:
    write_arc("sub-M2005", "ses-1034", image=False, others=("acq-tfl3_run-3_T1w",))
    for modality in ("T2w", "T1w"):
        with pytest.raises(InputError, match=r"sub-M2005_ses-1034_acq-spc3_run-3_T2w\.nii\.gz is missing, the T2w of"):
            find_arc(root, modality)


def test_two_masks_of_a_subject_are_named(root: Path, write_arc: Callable[..., None]) -> None:
    write_arc("sub-M2002", "ses-9999")
    with pytest.raises(InputError, match=r"ses-9999_acq-\S*_mask\.nii\.gz is the second lesion mask of sub-M2002"):
        find_arc(root)


@pytest.mark.parametrize("modality", ["T2w", "T1w"])
def test_a_mask_on_another_grid_than_its_t2w_is_named(
    tmp_path: Path, write_arc: Callable[..., None], modality: str
) -> None:
    write_arc(mask_affine=np.eye(4), others=("acq-tfl3_run-4_T1w",))
    with pytest.raises(InputError, match=r"run-3_T2w_desc-lesion_mask\.nii\.gz has another affine than sub-M2001_ses"):
        find_arc(tmp_path / "arc", modality)


def test_an_unreadable_image_is_named(root: Path) -> None:
    path = root / "sub-M2054/ses-1598/anat/sub-M2054_ses-1598_acq-tfl3p2_run-4_T1w.nii.gz"
    path.write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"run-4_T1w\.nii\.gz cannot be read as NIfTI"):
        find_arc(root, "T1w")


def test_what_is_no_arc_is_told(tmp_path: Path, write_arc: Callable[..., None]) -> None:
    with pytest.raises(InputError, match=r"modality='PDw' is none of ARC's: choose T1w, T2w, FLAIR$"):
        find_arc(tmp_path, "PDw")
    with pytest.raises(InputError, match=r"gone does not exist: give the root of the ARC dataset"):
        find_arc(tmp_path / "gone")
    write_arc(mask=False)
    with pytest.raises(InputError, match=r"lesion_masks holds no lesion mask .*download the derivatives as well"):
        find_arc(tmp_path / "arc")
    write_arc()
    with pytest.raises(InputError, match=r"arc holds no FLAIR in a session with a lesion mask"):
        find_arc(tmp_path / "arc", "FLAIR")
