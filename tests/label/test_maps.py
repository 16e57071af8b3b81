"""The pretraining's bundle behind MONAI Label: maps of an image, where its weights find them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.bundles import BUNDLES
from scripts.errors import InputError
from scripts.label.served_bundles import serve_bundles
from tests.bundles.conftest import TINY

PRETRAIN = BUNDLES / "pretrain_seqinv"
MAPS = ("PDmap", "R1map", "R2starmap", "MTsat")


@pytest.fixture(autouse=True)
def _(checks_forked: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """The bundle that is served is checked."""
    with checks_forked():
        yield


@pytest.fixture(scope="session")
def map_weights(
    shared: Callable[[str, Callable[[Path], Any]], Any], small_cohorts: dict[str, Path], run_bundle: Callable[..., None]
) -> Path:
    """What one step of map regression leaves."""

    def make(folder: Path) -> Path:
        configs = json.dumps([str(PRETRAIN / "configs" / name) for name in ("train.json", "maps.json")])
        places = {"work_dir": str(folder / "data"), "ckpt_dir": str(folder / "models"), "output_dir": str(folder)}
        steps = {"max_epochs": 1, "epoch_length": 1, "val_interval": 5, "picture_interval": 5}
        uri = f"sqlite:///{folder}/mlruns.db"
        settings = {**TINY, **places, **steps, "dataset_dir": str(small_cohorts["qmri"]), "tracking_uri": uri}
        run_bundle(configs, BUNDLES.parent, **settings)
        return folder

    made: Path = shared("maps_to_serve", make)
    return made


def test_an_encoder_without_maps_is_refused(tmp_path: Path, packed_away: Callable[[str], Any]) -> None:
    with pytest.raises(InputError, match=r"holds no network with a head for the four maps; train one with `python"):
        serve_bundles([str(packed_away("pretrain_seqinv").archive)], tmp_path)


def test_each_map_comes_with_what_is_to_be_believed_of_it(
    monailabel: None, map_weights: Path, studies: Path, tmp_path: Path, run_bundle: Callable[..., None]
) -> None:
    from monailabel.interfaces.exception import MONAILabelException

    from scripts.label.infer import infer_of

    (served,) = serve_bundles(["pretrain_seqinv"], tmp_path / "app", map_weights)
    metadata = json.loads((served.folder / "configs" / "metadata.json").read_text())
    infer = infer_of(served.folder, metadata)
    info = infer.info()
    assert info["config"]["map"] == list(MAPS)
    assert (info["labels"], info["result"]) == ([], "image")
    assert not infer.gives_labels
    image = str(studies / "head1.nii.gz")
    configs = json.dumps([f"configs/{name}" for name in ("inference.json", "inference_maps.json")])
    run_bundle(configs, served.folder, image=image, output_dir=str(tmp_path / "typed"))
    for name in ("PDmap", "MTsat"):
        path, told = infer({"image": image, "map": name})
        (typed,) = (tmp_path / "typed").rglob(f"*_{name}.nii.gz")
        np.testing.assert_array_equal(nib.load(path).get_fdata(), nib.load(typed).get_fdata())
        np.testing.assert_allclose(nib.load(path).affine, nib.load(image).affine, atol=1e-4)
        Path(path).unlink()
        assert told["map"] == name
        assert told["residual"] > 0.5
        assert told["warning"].startswith("this scan is unlike any simulated protocol")
    path, told = infer({"image": image})  # the first by default
    Path(path).unlink()
    assert told["map"] == "PDmap"
    with pytest.raises(MONAILabelException, match="map T1 is unknown: choose PDmap, R1map, R2starmap, MTsat"):
        infer({"image": image, "map": "T1"})
    assert torch.load(served.folder / "models" / "model.pt", weights_only=True)
