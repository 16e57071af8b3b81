"""What a server brings into its folder, and what it refuses before it starts. Needs no MONAI Label."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.bundles import BUNDLE_NAMES, BUNDLES, ROOT
from scripts.errors import InputError
from scripts.label.served_bundles import serve_bundles
from scripts.tasks import PRETRAIN_BUNDLE
from scripts.weights.provenance import file_sha256, provenance_of
from scripts.weights.shipped import shipped_file
from tests.commands.client import Commands


@pytest.fixture(autouse=True)
def _(checks_forked: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Each archive that is unpacked is checked."""
    with checks_forked():
        yield


def refused(names: list[str], app: Path, weights: Path | None = None) -> str:
    with pytest.raises(InputError) as caught:
        serve_bundles(names, app, weights)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_archives_are_unpacked_and_kept(archives: dict[str, Path], tmp_path: Path) -> None:
    first = serve_bundles([str(path) for path in archives.values()], tmp_path)
    assert [one.folder.name for one in first] == ["ixi_seg", "ixi_denoise"]
    assert "seqinv, T1w, embedded data" in str(first[0])
    made = (first[0].folder / "configs" / "inference.json").stat().st_mtime_ns
    again = serve_bundles([str(archives["ixi_seg"])], tmp_path)
    assert again[0] == first[0]
    assert (again[0].folder / "configs" / "inference.json").stat().st_mtime_ns == made


def test_a_changed_archive_is_unpacked_anew_but_not_over_a_training(archives: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "dist" / "ixi_seg.zip"
    other.parent.mkdir()
    shutil.copy(archives["ixi_seg"], other)
    (served,) = serve_bundles([str(other)], tmp_path / "app")
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("ixi_seg/docs/note.md", "another")
    (changed,) = serve_bundles([str(other)], tmp_path / "app")
    assert (changed.folder / "docs" / "note.md").is_file()
    weights = served.folder / "models" / "model.pt"
    state = torch.load(weights, weights_only=True)
    torch.save({key: value + 1 for key, value in state.items()}, weights)
    told = {"when": "2026-11-01T12:00:00+00:00", "images": 3}
    (served.folder / "retrained.json").write_text(json.dumps(told))
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("ixi_seg/docs/more.md", "and another")
    (kept,) = serve_bundles([str(other)], tmp_path / "app")
    assert kept.sha256 == file_sha256(weights)
    assert not (kept.folder / "docs" / "more.md").exists()
    assert "trained on 2026-11-01T12:00:00+00:00 with 3 labelled images" in str(kept)


def test_a_bundle_of_the_checkout_with_weights_of_a_training(archives: dict[str, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(archives["ixi_seg"]) as archive:
        archive.extract("ixi_seg/models/model.pt", tmp_path)
    line = refused(["ixi_seg"], tmp_path / "app", tmp_path / "ixi_seg" / "models" / "model.pt")
    # nothing beside the file tells of the small network that it is of
    assert "model.pt" in line


@pytest.mark.parametrize("name", [name for name in BUNDLE_NAMES if shipped_file(BUNDLES / name).is_file()])
def test_a_network_that_comes_with_the_checkout_is_served_with_its_settings(name: str, tmp_path: Path) -> None:
    weights = shipped_file(BUNDLES / name)
    (served,) = serve_bundles([name], tmp_path, weights)
    assert served.sha256 == file_sha256(weights)
    config = json.loads((served.folder / "configs" / "inference.json").read_text())
    known = provenance_of(weights, name).inference
    assert known
    assert {key: config[key] for key in known if key in config} == {k: v for k, v in known.items() if k in config}
    assert "synthetic, embedded data" in str(served) or name == PRETRAIN_BUNDLE


def test_wrong_weights_are_refused(archives: dict[str, Path], tmp_path: Path) -> None:
    (served,) = serve_bundles([str(archives["ixi_seg"])], tmp_path)
    weights = served.folder / "models" / "model.pt"
    state = torch.load(weights, weights_only=True)
    lacking = dict(list(state.items())[1:])
    torch.save(lacking, weights)
    line = refused([str(archives["ixi_seg"])], tmp_path)
    assert str(weights) in line or "ixi_seg" in line
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "ixi_seg" in refused([str(archives["ixi_seg"])], tmp_path)


def test_what_cannot_be_served(archives: dict[str, Path], package: Callable[..., Any], tmp_path: Path) -> None:
    seg = str(archives["ixi_seg"])
    assert "ixi_seg is named twice" in refused([seg, seg], tmp_path)
    assert "no bundle is named" in refused([], tmp_path)
    assert "choose some of ixi_seg, arc_lesion, ixi_denoise" in refused(["tissue"], tmp_path)
    assert "make it with `python -m scripts package ixi_seg`" in refused([str(tmp_path / "ixi_seg.zip")], tmp_path)
    assert "no archive of a bundle" in refused([str(tmp_path / "spleen.zip")], tmp_path)
    empty = package(BUNDLES / "arc_lesion", tmp_path / "dist", "none").path
    assert "holds no weights: package arc_lesion once it is trained" in refused([str(empty)], tmp_path)
    damaged = tmp_path / "cut" / "ixi_seg.zip"
    damaged.parent.mkdir()
    damaged.write_bytes(archives["ixi_seg"].read_bytes()[:-3000])
    assert str(damaged) in refused([str(damaged)], tmp_path)


def test_without_monai_label_the_command_says_how_to_install_it(
    commands: Commands, environment: dict[str, str], tmp_path: Path
) -> None:
    hidden = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'monailabel' else find(name, *more)\n"
        "from scripts.__main__ import main\n"
        f"sys.argv = ['scripts', 'label', '--studies', {str(tmp_path)!r}]\n"
        "main()\n"
    )
    done = commands.run([sys.executable, "-c", hidden], cwd=ROOT, env=environment)
    assert done.returncode != 0
    assert "pip install -e '.[label]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--studies", "nowhere"], "nowhere is no folder"),
        (["--studies", ".", "--bundles", "tissue"], "there is no bundle tissue: choose some of ixi_seg"),
        (["--studies", ".", "--app", "./app"], "lies in the folder of the images"),
        (["--studies", "images", "--app", "."], "lies in the folder of the server"),
        (["--studies", ".", "--host", "192.0.2.1"], "cannot listen at 192.0.2.1:8000"),
        (["--studies", ".", "--token", "short"], "--token is too short or odd"),
        (["--studies", ".", "--allowed_hosts", "http://lab"], "is no name of a machine"),
        (["--studies", ".", "--max_upload_gb", "0"], "--max_upload_gb 0 cannot be used"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(
    monailabel: None, words: list[str], told: str, tmp_path: Path, commands: Commands, environment: dict[str, str]
) -> None:
    (tmp_path / "images").mkdir()
    command = [sys.executable, "-m", "scripts", "label", *words]
    done = commands.run(command, cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)})
    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr
