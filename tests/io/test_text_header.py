"""No image reads a file that lies outside of its own folder, and none is taken for more than it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name that its own pages use

from scripts.errors import InputError
from scripts.io import itk as itk_files
from scripts.io.image_list import image_list
from scripts.io.read import read_header, read_volume
from tests.io.heads import itk, replace_line, voxels

Read = Callable[[Path], object]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file elsewhere with as many bytes as a head has."""
    path = tmp_path / "elsewhere" / "secret.raw"
    path.parent.mkdir()
    path.write_bytes(voxels().tobytes())
    return path


@pytest.mark.parametrize("read", [read_header, read_volume, image_list], ids=["header", "volume", "list"])
@pytest.mark.parametrize(
    ("ending", "key", "words"),
    [
        ("mha", "ElementDataFile", "ElementDataFile = {path}"),
        ("mha", "ElementDataFile", "ElementDataFile={path}"),
        ("mhd", "ElementDataFile", "ElementDataFile: ../elsewhere/secret.raw"),
        ("mhd", "ElementDataFile", "elementdatafile = LOCAL\nElementDataFile = {path}"),
        ("mhd", "ElementDataFile", "Comment = ElementDataFile = LOCAL\nElementDataFile = {path}"),
        ("mhd", "ElementDataFile", "ElementDataFile = LIST\n{path}"),
        ("mhd", "ElementDataFile", "ElementDataFile = slice%03d.raw 1 20 1"),
        ("mhd", "ElementDataFile", "ElementDataFile = .."),
        ("nhdr", "data file", "data file: {path}"),
        ("nhdr", "data file", "datafile: ../elsewhere/secret.raw"),
        ("nhdr", "data file", "Data File: {path}"),
        ("nhdr", "data file", "data file: LIST\n{path}"),
        ("nhdr", "data file", "data file: slice%03d.raw 1 20 1"),
        ("nrrd", "encoding", "encoding: raw\ndata file: {path}"),
    ],
)
def test_a_file_elsewhere_is_not_read(
    tmp_path: Path, secret: Path, read: Read, ending: str, key: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = itk(_folder(tmp_path) / f"head.{ending}")
    replace_line(path, key, words.format(path=secret))
    monkeypatch.setattr(itk_files, "_reader", lambda _: pytest.fail("SimpleITK was asked"))
    with pytest.raises(InputError, match=r"takes its voxels from (.*outside of its folder|several files)") as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("ending", "key"), [("mhd", "ElementDataFile = "), ("nhdr", "data file: ")])
@pytest.mark.parametrize("name", ["voxels.bin", "./voxels.bin", "my voxels.bin"])
def test_a_file_beside_is_read(tmp_path: Path, ending: str, key: str, name: str) -> None:
    path = itk(_folder(tmp_path) / f"head.{ending}")
    replace_line(
        path,
        "CompressedData" if ending == "mhd" else "encoding",
        "CompressedData = False" if ending == "mhd" else "encoding: raw",
    )
    (path.parent / name).write_bytes(voxels().transpose().tobytes())
    replace_line(path, key.split(" =")[0].split(":")[0], f"{key}{name}")
    np.testing.assert_array_equal(np.sort(read_volume(path)[0], axis=None), np.sort(voxels(), axis=None))
    (path.parent / name).unlink()
    with pytest.raises(InputError, match=r"voxels\.bin, which does not lie beside it: copy that too"):
        read_header(path)


def test_another_format_under_the_name_of_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "head.mha").write_bytes(itk(tmp_path / "head.nrrd").read_bytes())
    (tmp_path / "head.nhdr").write_bytes(itk(tmp_path / "head2.mha").read_bytes())
    for name, kind in (("head.mha", "MHA"), ("head.nhdr", "NHDR")):
        with pytest.raises(InputError, match=f"cannot be read as {kind}"):
            read_header(tmp_path / name)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("ending", "key", "words"),
    [
        ("mha", "DimSize", "DimSize = 30000 30000 30000"),
        ("nrrd", "sizes", "sizes: 30000 30000 30000"),
        ("nhdr", "sizes", "sizes: 30000 30000 30000"),
    ],
)
def test_more_voxels_than_a_file_holds(tmp_path: Path, compressed: bool, ending: str, key: str, words: str) -> None:
    path = tmp_path / f"head.{ending}"
    image = sitk.GetImageFromArray(voxels())
    sitk.WriteImage(image, str(path), useCompression=compressed)
    replace_line(path, key, words)
    for read in (read_header, read_volume):
        with pytest.raises(InputError, match="is cut off or damaged"):
            read(path)


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    folder.mkdir()
    return folder
