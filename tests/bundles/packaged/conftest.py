"""All four bundles packed without weights, unpacked away from the checkout, trained there, packed again with weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.bundles import BUNDLE_NAMES, BUNDLES
from scripts.cohort.arc_cohort import make_arc_cohort
from scripts.cohort.ixi_cohort import make_ixi_cohort
from scripts.package import package_bundle, unpack_bundle

TASK: dict[str, Any] = {
    "features": [4, 4, 8, 8, 8, 4],
    "patch_size": 32,
    "spacing": 4.0,
    "epoch_length": 2,
    "max_epochs": 1,
    "val_interval": 1,
    "num_workers": 0,
    "overlap": 0.25,
}
PRETRAINING: dict[str, Any] = {
    "features": [4, 4, 8, 8, 8],
    "projection": [16, 8],
    "patch_size": 32,
    "split_fractions": [0.5, 0.2],
    "epoch_length": 2,
    "max_epochs": 1,
    "batch_size": 2,
    "num_workers": 0,
    "val_interval": 1,
    "picture_interval": 1,
}


class Unpacked:
    """A bundle away from the checkout, and the commands that a user types for it in processes of their own."""

    def __init__(self, folder: Path, elsewhere: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.name = folder.name
        self.elsewhere = elsewhere
        self.environment = environment

    def python(self, *words: str, inside: bool) -> subprocess.CompletedProcess[str]:
        """Run Python with the bundle's folder, or one that has nothing to do with it, as the working directory."""
        cwd = self.folder if inside else self.elsewhere
        done = subprocess.run(
            [sys.executable, *words],
            cwd=cwd,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def run(
        self, *configs: str, inside: bool, launcher: tuple[str, ...] = (), **settings: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run ``monai.bundle run`` with configs of the bundle."""
        return self.python(*launcher, *self.words(*configs, inside=inside, **settings), inside=inside)

    def words(self, *configs: str, inside: bool, **settings: Any) -> list[str]:
        """Return the words after ``python`` of that command."""
        base = Path("configs") if inside else self.folder / "configs"
        files = [str(base / name) for name in configs]
        options = [
            word
            for key, value in settings.items()
            for word in (f"--{key}", value if isinstance(value, str) else json.dumps(value))
        ]
        return ["-m", "monai.bundle", "run", "--config_file", files[0] if len(files) == 1 else str(files), *options]


@pytest.fixture(scope="session")
def unpacked(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> Callable[[str | Path | None, str], Unpacked]:
    """Pack a bundle with some weights and unpack it into a folder of its own, or beside the others without any."""
    beside = tmp_path_factory.mktemp("beside")
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def make(weights: str | Path | None, name: str) -> Unpacked:
        into = beside if weights == "none" else tmp_path_factory.mktemp("alone")
        made = package_bundle(BUNDLES / name, tmp_path_factory.mktemp("dist"), weights)
        return Unpacked(unpack_bundle(made.path, into), elsewhere, environment)

    return make


@pytest.fixture(scope="session")
def data_of(tmp_path_factory: pytest.TempPathFactory, cohort: Path) -> dict[str, dict[str, Any]]:
    """The settings that name each bundle's data: synthetic, at 4 mm."""
    folder = tmp_path_factory.mktemp("packaged_heads")
    ixi = make_ixi_cohort(folder / "ixi", guys=4, hh=1, iop=0, seed=0, spacing=4.0, progress=False)
    arc = make_arc_cohort(folder / "arc", 5, seed=0, spacing=4.0, progress=False)
    places = {"ixi_seg": ixi, "ixi_denoise": ixi, "arc_lesion": arc}
    tasks = {name: {**TASK, "dataset_dir": str(place)} for name, place in places.items()}
    return {"pretrain_seqinv": {**PRETRAINING, "dataset_dir": str(cohort)}, **tasks}


@pytest.fixture(scope="session")
def trained_away(
    unpacked: Callable[[str | Path | None, str], Unpacked], data_of: dict[str, dict[str, Any]]
) -> dict[str, Unpacked]:
    """The four bundles side by side, each trained by its own code; the tasks take the encoder beside them."""
    bundles = {name: unpacked("none", name) for name in BUNDLE_NAMES}
    for name, bundle in bundles.items():
        assert not (bundle.folder / "models").exists()
        bundle.run("train.json", inside=False, **data_of[name])
    return bundles


@pytest.fixture(scope="session", params=BUNDLE_NAMES)
def packed(
    request: pytest.FixtureRequest,
    trained_away: dict[str, Unpacked],
    unpacked: Callable[[str | Path | None, str], Unpacked],
) -> Unpacked:
    """Each bundle with its weights, unpacked in a folder where there is no other."""
    return unpacked(trained_away[request.param].folder, request.param)
