"""What may be in a packed bundle, and what it needs."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.bundles import BUNDLE_NAMES, BUNDLES, ROOT
from scripts.errors import InputError
from scripts.package import check_staged, package_bundles, stage_bundle, unpack_bundle
from scripts.package.bake import bake_settings
from scripts.package.needed_files import config_modules, needed_files
from tests.commands.client import Commands


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of a bundle in a checkout, to spoil."""
    return Path(
        shutil.copytree(BUNDLES / "ixi_seg", tmp_path / "ixi_seg", ignore=shutil.ignore_patterns("scripts", "models"))
    )


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf-8")


def spoil(bundle: Path, how: str) -> None:
    configs, docs = bundle / "configs", bundle / "docs"
    if how == "link":
        (docs / "more.md").symlink_to(ROOT / "README.md")
    elif how == "database":
        (configs / "mlruns.db").write_bytes(b"SQLite format 3\0")
    elif how == "log":
        (docs / "train.log").write_text("epoch 1")
    elif how == "path in a config":
        rewrite(configs / "train.json", lambda config: config.update(dataset_dir="/home/anna/ixi"))
    elif how == "path in a page":
        with (docs / "README.md").open("a") as page:
            page.write("see /tmp/notes\n")
    elif how == "no licence":
        (bundle / "LICENSE").unlink()
    elif how == "no module":
        rewrite(configs / "train.json", lambda config: config["data"].update(_target_="scripts.data.nothing.here"))
        rewrite(configs / "train.json", lambda config: config.update(more="$scripts.nowhere.at_all()"))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("link", "docs/more.md is a link: put the file itself there"),
        ("database", "configs/mlruns.db is no part of a bundle: move it away"),
        ("log", "docs/train.log is no part of a bundle: move it away"),
        ("path in a config", "ixi_seg/configs/train.json, line"),
        ("path in a page", "holds the local path /tmp/notes: take it out"),
        ("no licence", "LICENSE is missing: restore it"),
        ("no module", "configs/train.json names scripts.nowhere.at_all, which is no module of scripts"),
    ],
    ids=lambda value: value if " " not in value or len(value) < 20 else "",
)
def test_what_may_not_be_shipped_is_refused(bundle: Path, tmp_path: Path, how: str, told: str) -> None:
    spoil(bundle, how)
    with pytest.raises(InputError) as caught:
        stage_bundle(bundle, tmp_path / "staged" / "ixi_seg")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_target_that_is_not_there_is_told(bundle: Path, tmp_path: Path) -> None:
    rewrite(
        bundle / "configs" / "train.json", lambda config: config["data"].update(_target_="scripts.data.ixi.no_such")
    )
    stage_bundle(bundle, tmp_path / "staged" / "ixi_seg")
    with pytest.raises(InputError, match=r"train.json: there is no scripts\.data\.ixi\.no_such"):
        check_staged(tmp_path / "staged" / "ixi_seg")


def test_weights_of_another_network_are_refused(tmp_path: Path, package: Callable[..., Any]) -> None:
    torch.save({"conv_0.weight": torch.zeros(3)}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"model\.pt does not hold this network"):
        package(BUNDLES / "ixi_seg", tmp_path / "dist", tmp_path / "model.pt")
    assert not (tmp_path / "dist" / "ixi_seg.zip").exists()


def test_a_page_comes_with_its_template_style_and_script() -> None:
    needed = {file.name for file in needed_files(["scripts.qc.quality_page", "scripts.export.card"], ROOT)}
    assert {f"quality_page.{end}" for end in ("py", "html.jinja", "css", "js")} | {"card.md.jinja"} <= needed


@pytest.mark.parametrize("name", BUNDLE_NAMES)
def test_no_module_is_missing_and_none_is_there_for_nothing(name: str, commands: Commands) -> None:
    modules = config_modules(sorted((BUNDLES / name / "configs").glob("*.json")), ROOT)
    files = {str(file) for file in needed_files(modules, ROOT)}
    assert {"scripts/__init__.py", "scripts/errors.py"} <= files
    for part in ("scripts/__main__.py", "scripts/commands", "scripts/experiment", "scripts/benchmark", "scripts/demo"):
        assert not [file for file in files if file.startswith(part)]
    # what Python itself loads for the same modules is among them
    code = "import sys, importlib\nfor m in sys.argv[1:]: importlib.import_module(m)\n"
    code += "print(*[m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'scripts'], sep='\\n')"
    loaded = commands.run([sys.executable, "-W", "ignore", "-c", code, *sorted(modules)], cwd=ROOT)
    assert loaded.returncode == 0, loaded.stderr
    assert {str(Path(file).relative_to(ROOT)) for file in loaded.stdout.split()} <= files


class TestSettings:
    def test_those_of_the_training_take_the_place_of_plain_values(self) -> None:
        config = {
            "features": [64, 32],
            "spacing": 1.0,
            "freeze": True,
            "class_weight": None,
            "rotation_degrees": [15.0],
            "device": "$torch.device('cpu')",
            "seed": "@other",
            "loss": {"_target_": "x"},
            "variant": "mine",
        }
        settings = {
            "features": "[4, 8]",
            "spacing": 2.0,
            "frozen": False,
            "class_weight": "[1, 3]",
            "augmentation": "[[5.0], [0.1]]",
            "device": "cuda",
            "seed": 3,
            "loss": "{}",
            "variant": "base",
            "unknown": 1,
        }
        assert bake_settings(config, settings) == {
            **config,
            "features": [4, 8],
            "spacing": 2.0,
            "freeze": False,
            "class_weight": [1, 3],
            "rotation_degrees": [5.0],
        }

    def test_an_encoder_sees_the_voxels_of_its_cohort(self) -> None:
        settings = {"channels": "[4, 8]", "embedded": "{'subjects': 3, 'spacing': 2.0}"}
        assert bake_settings({"features": [64], "spacing": 1.0}, settings) == {"features": [4, 8], "spacing": 2.0}


class TestArchives:
    def test_a_name_that_is_none_is_told_with_those_that_are(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="bundle ixi is unknown: choose pretrain_seqinv, ixi_seg"):
            package_bundles("ixi", tmp_path)

    def test_one_weights_file_is_not_for_all(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="to package all bundles, give the folder of a demo"):
            package_bundles("all", tmp_path, tmp_path / "model.pt")

    def test_only_the_archive_of_a_bundle_is_unpacked(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "ixi_seg.zip", "w") as archive:
            archive.writestr("ixi_seg/configs/inference.json", "{}")
            archive.writestr("ixi_seg/../../outside", "x")
        with pytest.raises(InputError, match="no archive of the bundle ixi_seg"):
            unpack_bundle(tmp_path / "ixi_seg.zip", tmp_path / "into")
        (tmp_path / "arc_lesion.zip").write_bytes(b"PK\3\4 cut")
        with pytest.raises(InputError, match="cannot be unpacked"):
            unpack_bundle(tmp_path / "arc_lesion.zip", tmp_path / "into")
        assert not (tmp_path / "into").exists()
