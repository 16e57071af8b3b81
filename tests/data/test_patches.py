from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import ClassesToIndicesd, Compose, MapTransform, RandFlipd, RandGaussianNoised, RandSpatialCropd
from numpy.typing import NDArray

from scripts.data.patches import PatchDataset, VolumeDataset
from scripts.errors import InputError
from scripts.transforms.add_noise import AddNoised
from scripts.transforms.foreground import NormaliseForegroundd
from scripts.transforms.load_labels import LoadLabelsd
from tests.commands.client import Commands
from tests.io.loading import loading

ROOT = Path(__file__).parents[2]

SHAPE = (12, 14, 10)
SEEDS = 5  # entries

Entries = list[dict[str, Any]]


class Counted(MapTransform):
    """Multiplies, and counts how often it did."""

    calls = 0

    def __init__(self, keys: str, by: float = 1.0) -> None:
        super().__init__(keys)
        self.by = by

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        Counted.calls += 1
        return {**data, **{key: data[key] * self.by for key in self.keys}}


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    Counted.calls = 0


@pytest.fixture
def entries(write_volume: Callable[..., Path]) -> Entries:
    """Five ball-shaped heads with a mask of their own inner ball."""
    grid = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in SHAPE], indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    made = []
    for k in range(SEEDS):
        rng = np.random.default_rng(k)
        image = np.where(radius < 4.6, 100 + 10 * k + 10 * rng.standard_normal(SHAPE), 0).astype(np.float32)
        path = write_volume(f"sub-{k}.nii.gz", image)
        label = write_volume(f"sub-{k}_mask.nii.gz", (radius < 2).astype(np.uint8))
        made.append({"subject": f"sub-{k}", "image": str(path), "label": str(label)})
    return made


def steady(by: float = 1.0) -> list[Any]:
    return [
        *loading(),
        LoadLabelsd("label", {1: "ball"}),
        Counted("image", by),
        NormaliseForegroundd("image", others=["label"]),
    ]


def random() -> list[Any]:
    return [
        RandSpatialCropd(["image", "label"], (4, 5, 3), random_size=False),
        RandFlipd(["image", "label"], prob=0.5, spatial_axis=0),
        RandGaussianNoised("image", prob=0.5, std=0.3),
        AddNoised("image", label_key="noise"),
    ]


def patches(entries: Entries, cache: Path | None, seed: int = 0) -> PatchDataset:
    return PatchDataset(entries, Compose([*steady(), *random()]), cache, seed)


def assert_same(first: Mapping[Any, Any], second: Mapping[Any, Any]) -> None:
    assert first.keys() == second.keys()
    for key, value in first.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == second[key].dtype
            assert torch.equal(value.as_subclass(torch.Tensor), second[key].as_subclass(torch.Tensor)), key
        else:
            assert value == second[key], key


class TestCache:
    def test_cached_is_as_if_made_anew(self, entries: Entries, tmp_path: Path) -> None:
        plain = VolumeDataset(entries, Compose(steady()), None)
        cached = VolumeDataset(entries, Compose(steady()), tmp_path / "cache")
        for _ in range(2):
            for k in range(SEEDS):
                assert_same(plain[k], cached[k])
        assert Counted.calls == 2 * SEEDS + SEEDS

    def test_what_a_volume_knows_survives(self, entries: Entries, tmp_path: Path, oblique: NDArray[Any]) -> None:
        VolumeDataset(entries, Compose(steady()), tmp_path / "cache")[3]
        Counted.calls = 0
        item = VolumeDataset(entries, Compose(steady()), tmp_path / "cache")[3]
        assert Counted.calls == 0
        image = item["image"]
        assert isinstance(image, MetaTensor)
        assert image.affine.dtype == torch.float64
        made = Compose(steady())(dict(entries[3]))["image"]
        assert torch.equal(image.affine, made.affine)
        assert not np.allclose(image.affine, oblique)  # cut, so the affine is not the file's
        assert (image.meta["mean"], image.meta["deviation"]) == (made.meta["mean"], made.meta["deviation"])
        assert image.meta["mean"] == pytest.approx(130, abs=3)
        assert image.meta["filename_or_obj"] == entries[3]["image"]
        assert item["label"].dtype == torch.uint8
        assert item["subject"] == "sub-3"

    def test_no_enumeration_is_kept(self, entries: Entries, tmp_path: Path) -> None:
        # torch does not read them back under Python 3.11.2, wherever they are
        classes = ClassesToIndicesd("label", "_indices", num_classes=2)
        item = VolumeDataset(entries, Compose([*steady(), classes]), tmp_path / "cache")[0]
        assert isinstance(item["label_indices"][0], torch.Tensor)
        (path,) = (tmp_path / "cache").iterdir()
        assert b"MetaTensor" in path.read_bytes()
        assert b"monai.utils.enums" not in path.read_bytes()

    def test_preparing_makes_everything_once(
        self, entries: Entries, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = VolumeDataset(entries, Compose(steady()), tmp_path / "cache")
        data.prepare("volumes")
        assert len(list((tmp_path / "cache").glob("*.pt"))) == Counted.calls == SEEDS
        assert "volumes: 100%" in capsys.readouterr().err
        data.prepare("volumes")
        VolumeDataset(entries[::-1], Compose(steady()), tmp_path / "cache").prepare("volumes")
        assert Counted.calls == SEEDS
        assert capsys.readouterr().err == ""
        VolumeDataset(entries, Compose(steady()), None).prepare("nothing")
        assert Counted.calls == SEEDS

    def test_preparing_tells_what_is_wrong_with_any_file(self, entries: Entries, tmp_path: Path) -> None:
        entries[4]["label"] = str(tmp_path / "gone.nii.gz")
        with pytest.raises(InputError, match=r"gone\.nii\.gz does not exist"):
            VolumeDataset(entries, Compose(steady()), tmp_path / "cache").prepare("volumes")
        assert not list((tmp_path / "cache").glob(".*"))

    def test_a_removed_file_is_made_again(self, entries: Entries, tmp_path: Path) -> None:
        data = VolumeDataset(entries, Compose(steady()), tmp_path)
        data.prepare("volumes")
        (path := next(iter(sorted(tmp_path.glob("*.pt"))))).unlink()
        data.prepare("volumes")
        assert path.is_file()
        assert Counted.calls == SEEDS + 1

    @pytest.mark.parametrize("key", ["image", "label"])
    def test_a_changed_file_is_read_again(
        self, entries: Entries, tmp_path: Path, write_volume: Callable[..., Path], key: str
    ) -> None:
        """By its time, or by its size."""
        data = VolumeDataset(entries, Compose(steady()), tmp_path / "cache")
        before = data[0]
        time = Path(entries[0][key]).stat().st_mtime_ns
        os.utime(entries[0][key], ns=(time, time + 1_000_000_000))
        assert_same(data[0], before)
        assert Counted.calls == 2
        size = Path(entries[0][key]).stat().st_size
        write_volume(Path(entries[0][key]).name, np.random.default_rng(9).integers(0, 2, SHAPE).astype(np.uint8))
        os.utime(entries[0][key], ns=(time, time))
        assert Path(entries[0][key]).stat().st_size != size
        assert not torch.equal(data[0][key], before[key])

    def test_files_in_a_list_count(self, entries: Entries, tmp_path: Path) -> None:
        for entry in entries:
            entry["label"] = [entry["label"]]
        data = VolumeDataset(entries, Compose(steady()), tmp_path / "cache")
        data[0]
        os.utime(entries[0]["label"][0], ns=(1, 1))
        data[0]
        assert Counted.calls == 2

    def test_other_steady_transforms_have_a_file_of_their_own(self, entries: Entries, tmp_path: Path) -> None:
        first = VolumeDataset(entries, Compose(steady()), tmp_path / "cache")[0]["image"]
        other = VolumeDataset(entries, Compose(steady(by=3.0)), tmp_path / "cache")[0]["image"]
        assert other.meta["mean"] == pytest.approx(3 * first.meta["mean"], rel=1e-5)
        assert len(list((tmp_path / "cache").glob("*.pt"))) == 2

    def test_random_transforms_share_one(self, entries: Entries, tmp_path: Path) -> None:
        """Training and validation prepare a volume alike; so does another seed."""
        VolumeDataset(entries, Compose(steady()), tmp_path / "cache").prepare("volumes")
        for seed in (0, 1):
            patches(entries, tmp_path / "cache", seed)[0]
        assert Counted.calls == SEEDS

    def test_another_process_finds_them(self, entries: Entries, tmp_path: Path, commands: Commands) -> None:
        code = (
            "import sys; from monai.transforms import Compose\n"
            "from scripts.transforms.foreground import NormaliseForegroundd\n"
            "from tests.io.loading import loading\n"
            "from scripts.data.patches import VolumeDataset\n"
            "transforms = [*loading(), NormaliseForegroundd('image', over='box')]\n"
            "entry = dict(zip(('subject', 'image', 'label'), sys.argv[1:4]))\n"
            "VolumeDataset([entry], Compose(transforms), sys.argv[4]).prepare('volume')\n"
        )
        transforms = [*loading(), NormaliseForegroundd("image", over="box")]
        VolumeDataset(entries[:1], Compose(transforms), tmp_path / "cache").prepare("volume")
        (path,) = (tmp_path / "cache").iterdir()
        time = path.stat().st_mtime_ns
        given = [*entries[0].values(), str(tmp_path / "cache")]
        done = commands.run([sys.executable, "-c", code, *given], cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert [(p, p.stat().st_mtime_ns) for p in (tmp_path / "cache").iterdir()] == [(path, time)]

    @pytest.mark.parametrize("damage", ["half", "empty", "text", "zip"])
    def test_a_damaged_file_is_made_again(
        self, entries: Entries, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        data = VolumeDataset(entries[:1], Compose(steady()), tmp_path / "cache")
        before = data[0]
        (path,) = (tmp_path / "cache").iterdir()
        whole = path.read_bytes()
        path.unlink()  # ``before`` is mapped from it
        path.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "text": b"x\n", "zip": b"PK\x03\x04"}[damage])
        assert_same(data[0], before)
        assert f"{path} was damaged and is made again" in caplog.messages
        assert path.stat().st_size == len(whole)

    def test_a_disk_that_gives_back_other_bytes_is_told(
        self, entries: Entries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = VolumeDataset(entries[:1], Compose(steady()), tmp_path / "cache")
        monkeypatch.setattr("scripts.data.patches.torch.save", lambda made, part: part.write_bytes(b"x"))
        with pytest.raises(InputError, match=r"\.pt cannot be read back: check that disk"):
            data[0]

    def test_changing_an_item_leaves_the_cache_alone(self, entries: Entries, tmp_path: Path) -> None:
        data = VolumeDataset(entries, Compose(steady()), tmp_path / "cache")
        data[0]
        before = data[0]
        data[0]["image"].zero_()
        assert_same(data[0], before)
        assert bool(data[0]["image"].any())


class TestPatches:
    def test_items_follow_from_seed_and_index_in_any_order(self, entries: Entries, tmp_path: Path) -> None:
        data = patches(entries, tmp_path / "cache")
        indices = [0, 3, 7, 12, 13, 101]
        first = {i: data[i] for i in indices}
        for i in reversed(indices):
            assert_same(data[i], first[i])
            assert_same(patches(entries, tmp_path / "cache")[np.int64(i)], first[i])
        assert_same(patches(entries, None)[7], first[7])

    @pytest.mark.parametrize("n_workers", [0, 2])
    def test_whatever_worker_makes_them(self, entries: Entries, tmp_path: Path, n_workers: int) -> None:
        torch.manual_seed(n_workers)
        wanted = [patches(entries, tmp_path / "cache")[i] for i in range(6, 14)]
        data = patches(entries, tmp_path / "cache")
        loaded = DataLoader(data, batch_size=2, sampler=range(6, 14), num_workers=n_workers)
        images = torch.cat([batch["image"].as_subclass(torch.Tensor) for batch in loaded])
        noise = torch.cat([batch["noise"].as_subclass(torch.Tensor) for batch in loaded])
        assert torch.equal(images, torch.stack([item["image"].as_subclass(torch.Tensor) for item in wanted]))
        assert torch.equal(noise, torch.stack([item["noise"].as_subclass(torch.Tensor) for item in wanted]))

    def test_a_pass_takes_each_entry_once_in_an_order_of_its_own(self, entries: Entries, tmp_path: Path) -> None:
        data = patches(entries, tmp_path / "cache")
        orders = []
        for turn in range(6):
            orders.append([data[turn * SEEDS + place]["subject"] for place in range(SEEDS)])
            assert sorted(orders[-1]) == [entry["subject"] for entry in entries]
        assert len({tuple(order) for order in orders}) > 3

    def test_draws_differ_between_items_passes_and_seeds(self, entries: Entries, tmp_path: Path) -> None:
        one = patches(entries[:1], tmp_path / "cache")
        noises = [one[i]["noise"] for i in range(8)]
        noises += [patches(entries[:1], tmp_path / "cache", seed)[0]["noise"] for seed in (1, 2)]
        assert len({float(noise.flatten()[0]) for noise in noises}) == 10
        corners = {tuple(one[i]["image"].affine[:3, 3].tolist()) for i in range(20)}
        assert len(corners) > 10

    def test_the_entries_stay_as_they_were(self, entries: Entries, tmp_path: Path) -> None:
        before = [dict(entry) for entry in entries]
        data = patches(entries, tmp_path / "cache")
        for i in range(7):
            data[i]
        assert entries == before
        assert len(data) == SEEDS
