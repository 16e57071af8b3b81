"""Files whose content was never fetched say how it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts.errors import InputError
from scripts.io.image_list import image_list
from scripts.io.read import read_header
from tests.io.heads import itk, nifti

KEY = ".git/annex/objects/Wk/8x/MD5E-s5663237--2f/MD5E-s5663237--2f.nii.gz"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"


def as_link(path: Path) -> None:
    path.symlink_to(f"../../{KEY}")


def as_text(path: Path) -> None:
    path.write_text(f"../../{KEY}")


def unlocked(path: Path) -> None:
    path.write_text("/annex/objects/MD5E-s5663237--2f.nii.gz\n")


def lfs(path: Path) -> None:
    path.write_text(LFS)


@pytest.mark.parametrize("name", ["T1w.nii.gz", "T1w.nii", "T1w.nrrd", "T1w.mha"])
@pytest.mark.parametrize(
    ("make", "cure"),
    [
        (as_link, "git-annex, without the content: type `datalad get {path}`"),
        (as_text, "git-annex, without the content: type `datalad get {path}`"),
        (unlocked, "git-annex, without the content: type `datalad get {path}`"),
        (lfs, "Git LFS, without the content: type `git lfs pull`"),
    ],
)
def test_a_pointer_is_named_as_such(tmp_path: Path, name: str, make: object, cure: str) -> None:
    path = tmp_path / name
    make(path)  # type: ignore[operator]
    for given in (path, tmp_path):
        with pytest.raises(InputError) as caught:
            image_list(given)
        assert str(caught.value) == f"{path} is a pointer of {cure.format(path=path)}"
    with pytest.raises(InputError, match="is a pointer of"):
        read_header(path)


def test_the_voxels_of_another_file_may_be_a_pointer(tmp_path: Path) -> None:
    path = itk(tmp_path / "head.mhd")
    (voxels,) = (file for file in tmp_path.iterdir() if file != path)
    voxels.write_text(LFS)
    with pytest.raises(InputError, match=f"{voxels.name} is a pointer of Git LFS"):
        read_header(path)


def test_pointers_of_a_dicom_series(tmp_path: Path) -> None:
    for number in range(3):
        as_link(tmp_path / f"IM{number}")
    with pytest.raises(InputError, match=r"IM0 is a pointer of git-annex"):
        image_list(tmp_path)


def test_other_links(tmp_path: Path) -> None:
    (tmp_path / "a.nii").symlink_to("gone.nii")
    with pytest.raises(InputError, match=r"a\.nii is a link to gone\.nii, where there is no file"):
        image_list(tmp_path / "a.nii")
    (tmp_path / "b.nii").symlink_to("b.nii")
    with pytest.raises(InputError, match=r"b\.nii is a link to b\.nii, where there is no file"):
        image_list(tmp_path / "b.nii")
    os.mkfifo(tmp_path / "c.nii")
    with pytest.raises(InputError, match=r"c\.nii is no file"):
        image_list(tmp_path / "c.nii")
    (tmp_path / "d.nii").symlink_to(nifti(tmp_path / "head.nii"))
    assert image_list(tmp_path / "d.nii")
