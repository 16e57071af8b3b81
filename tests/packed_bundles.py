"""All four bundles packed without weights, unpacked elsewhere, trained there, and packed again with weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.bundles import BUNDLE_NAMES, BUNDLES
from scripts.package import unpack_bundle
from tests.on_demand import OnDemand

TASK: dict[str, Any] = {
    "features": [4, 4, 8, 8, 8, 4],
    "patch_size": 32,
    "spacing": 8.0,
    "epoch_length": 1,
    "max_epochs": 1,
    "val_interval": 1,
    "num_workers": 0,
    "overlap": 0.125,
}
PRETRAINING: dict[str, Any] = {
    "features": [4, 4, 8, 8, 8],
    "projection": [16, 8],
    "patch_size": 32,
    "split_fractions": [0.5, 0.2],
    "epoch_length": 1,
    "max_epochs": 1,
    "batch_size": 2,
    "num_workers": 0,
    "val_interval": 1,
    "picture_interval": 1,
}


Shared = Callable[[str, Callable[[Path], Any]], Any]
Execute = Callable[..., subprocess.CompletedProcess[str]]


class Unpacked:
    """A bundle away from the checkout, and the commands that a user types for it, each a process of its own."""

    def __init__(self, folder: Path, elsewhere: Path, execute: Execute) -> None:
        self.folder = folder
        self.archive = folder.parents[1] / "dist" / f"{folder.name}.zip"
        self.name = folder.name
        self.elsewhere = elsewhere
        self.execute = execute

    def python(self, *words: str, inside: bool, anew: bool = False) -> subprocess.CompletedProcess[str]:
        """Run Python with the bundle's folder, or one that has nothing to do with it, as the working directory."""
        done = self.execute([sys.executable, *words], self.folder if inside else self.elsewhere, anew=anew)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def run(self, *configs: str, inside: bool, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run ``monai.bundle run`` with configs of the bundle."""
        base = Path("configs") if inside else self.folder / "configs"
        files = [str(base / name) for name in configs]
        options = [
            word
            for key, value in settings.items()
            for word in (f"--{key}", value if isinstance(value, str) else json.dumps(value))
        ]
        config = files[0] if len(files) == 1 else str(files)
        return self.python("-m", "monai.bundle", "run", "--config_file", config, *options, inside=inside)


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has nothing to do with any bundle."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="session")
def data_of(small_cohorts: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """The settings that name each bundle's data: synthetic, at 4 mm."""
    layouts = {"pretrain_seqinv": "qmri", "arc_lesion": "arc"}

    def settings(name: str) -> dict[str, Any]:
        dataset = small_cohorts[layouts.get(name, "ixi")]
        return {**(PRETRAINING if name == "pretrain_seqinv" else TASK), "dataset_dir": str(dataset)}

    return OnDemand(settings)


@pytest.fixture(scope="session")
def trained_away(
    shared: Shared,
    package: Callable[..., Any],
    elsewhere: Path,
    execute: Execute,
    data_of: dict[str, dict[str, Any]],
) -> dict[str, Unpacked]:
    """The four bundles side by side, each trained by its own code; the tasks take the encoder beside them."""

    def train(name: str) -> Unpacked:
        def make(folder: Path) -> Path:
            if name != "pretrain_seqinv":
                folder = made["pretrain_seqinv"].folder.parents[1]
            place = unpack_bundle(package(BUNDLES / name, folder / "dist", "none").path, folder / "beside")
            assert not (place / "models").exists()
            Unpacked(place, elsewhere, execute).run("train.json", inside=False, **data_of[name])
            return place

        return Unpacked(shared(f"trained_away_{name}", make), elsewhere, execute)

    made = OnDemand(train)
    return made


@pytest.fixture(scope="session")
def packed_away(
    shared: Shared,
    trained_away: dict[str, Unpacked],
    package: Callable[..., Any],
    elsewhere: Path,
    execute: Execute,
) -> Callable[[str], Unpacked]:
    """A bundle with its weights, unpacked in a folder where there is no other."""

    def get(name: str) -> Unpacked:
        def make(folder: Path) -> Path:
            archive = package(BUNDLES / name, folder / "dist", trained_away[name].folder).path
            return unpack_bundle(archive, folder / "alone")

        return Unpacked(shared(f"packed_{name}", make), elsewhere, execute)

    return get


@pytest.fixture(scope="session", params=BUNDLE_NAMES)
def packed(request: pytest.FixtureRequest, packed_away: Callable[[str], Unpacked]) -> Unpacked:
    """Each bundle."""
    return packed_away(request.param)


@pytest.fixture(scope="session", params=["pretrain_seqinv", "ixi_seg"])
def one_packed(request: pytest.FixtureRequest, packed_away: Callable[[str], Unpacked]) -> Unpacked:
    """One of each kind: the tasks' configs are the same but for what `tests.bundles.tasks` names."""
    return packed_away(request.param)
