from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.errors import InputError
from scripts.io.image_list import image_list


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n, name in enumerate(("b.nii.gz", "a.nii", "c.nii.gz")):
        volume = np.arange(24, dtype=np.float32).reshape(2, 3, 4) + n
        nib.save(nib.Nifti1Image(volume, np.diag([-2.0, 1, 1, 1])), tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_a_file_a_folder_and_a_list(folder: Path) -> None:
    everything = [{"image": str(folder / name)} for name in ("a.nii", "b.nii.gz", "c.nii.gz")]
    assert image_list(folder, any_size=True) == everything
    assert image_list(str(folder / "a.nii"), any_size=True) == everything[:1]
    chosen = image_list([folder / "c.nii.gz", str(folder / "a.nii")], any_size="yes")
    assert chosen == [everything[2], everything[0]]


def test_what_is_no_image_is_named(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "text.nii").write_text("no image")
    shutil.copy(folder / "b.nii.gz", folder / ".nii.gz")
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2, 3), np.float32), np.eye(4)), folder / "four.nii")
    for given, told in (
        (None, "--image"),
        ([], "--image"),
        (folder / "gone.nii", "gone.nii does not exist"),
        (folder / ".nii.gz", ".nii.gz has no name before its ending: rename it"),
        (folder / "notes.txt", "notes.txt is no image that can be read"),
        (folder / "empty", "empty holds no image (.nii"),
        (folder / "text.nii", "text.nii cannot be read as NIfTI"),
        ([folder / "a.nii", folder / "four.nii"], "four.nii is 4D"),
    ):
        with pytest.raises(InputError) as caught:
            image_list(given, any_size=True)
        assert told in str(caught.value)
