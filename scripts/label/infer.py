"""Inference behind MONAI Label: the bundle's own, so that its result is that of ``monai.bundle run``."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from scripts.errors import InputError
from scripts.label.own_scripts import reason_of, run_config
from scripts.label.uploads import IMAGE_ENDINGS
from scripts.label.values import as_device
from scripts.tasks import MAPS_OVERLAY, PRETRAIN_BUNDLE
from scripts.transforms.map_table import TABLE
from scripts.transforms.map_volumes import MAP_KEYS
from scripts.weights.provenance import file_sha256

__all__ = ["BundleInfer", "MapsInfer", "infer_of", "refused"]

logger = logging.getLogger(__name__)


def refused(reason: str) -> MONAILabelException:
    """Return the error that tells a client what is wrong with its request."""
    error = MONAILabelException(MONAILabelError.INVALID_INPUT, reason)
    error.args = (reason,)
    return error


class BundleInfer(InferTask):
    """A bundle's ``inference.json`` on one image.

    Weights are read, strictly, for each request: those that a training has just made are served at once.

    Args:
        folder: of the bundle.
        metadata: content of its ``metadata.json``.
    """

    configs: tuple[str, ...] = ("inference.json",)
    """Of the bundle, merged in this order."""

    def __init__(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        pred = metadata["network_data_format"]["outputs"]["pred"]
        self.folder = folder
        self.gives_labels = pred.get("format") == "segmentation"
        labels = {name.lower(): int(value) for value, name in pred["channel_def"].items() if int(value)}
        not_labels = "" if self.gives_labels else " Returns an image, not labels."
        super().__init__(
            type=InferType.SEGMENTATION if self.gives_labels else InferType.OTHERS,
            labels=labels if self.gives_labels else None,
            dimension=3,
            description=f"{metadata['description']}{not_labels} Research only, not for clinical use.",
            config={"result_extension": list(IMAGE_ENDINGS)},
        )
        self.version = metadata["version"]

    def info(self) -> dict[str, Any]:
        """Return what clients are told of the model."""
        return {**super().info(), "version": self.version, "result": "labels" if self.gives_labels else "image"}

    def is_valid(self) -> bool:
        """Return whether there are weights."""
        return (self.folder / "models" / "model.pt").is_file()

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the file of the result, on the image's own grid, and what is told of it.

        Args:
            request: ``image``, a file or the folder of a DICOM series; ``result_extension``; ``device``;
                ``model_filename``, another file of the bundle's ``models``.

        Raises:
            MONAILabelException: the image or the weights cannot be used; its message says why.
        """
        began = time.monotonic()
        ending = self._ending(request)
        weights = self.folder / "models" / Path(str(request.get("model_filename") or "model.pt")).name
        device = _device(request)
        result_of = self.chosen(request)
        with tempfile.TemporaryDirectory(prefix="seqinv-label-") as out:
            self._run(str(request["image"]), Path(out), weights, device)
            written, told = result_of(Path(out))
            result = Path(tempfile.mkstemp(prefix=f"{self.folder.name}-", suffix=ending)[1])
            _copy(written, result)
        answer = {
            "label_names": self.labels if self.gives_labels else {},
            "result": "labels" if self.gives_labels else "image",
            "weights_sha256": file_sha256(weights),
            "latencies": {"total": round(time.monotonic() - began, 2)},
            **told,
        }
        return str(result), answer

    def chosen(self, request: Mapping[str, Any]) -> Callable[[Path], tuple[Path, dict[str, Any]]]:  # noqa: ARG002 - that of maps needs it
        """Return what finds, below the folder of a run, the file that a request asks for and what is told of it.

        Raises:
            MONAILabelException: the request asks for what there is not.
        """
        return lambda out: (next(out.rglob("*.nii.gz")), {})

    def _ending(self, request: Mapping[str, Any]) -> str:
        ending = request.get("result_extension") or IMAGE_ENDINGS[0]
        ending = IMAGE_ENDINGS[0] if isinstance(ending, (list, tuple)) else str(ending)
        if ending not in IMAGE_ENDINGS:
            raise refused(f"result_extension {ending} is unknown: choose {', '.join(IMAGE_ENDINGS)}")
        return ending

    def _run(self, image: str, out: Path, weights: Path, device: torch.device | None) -> None:
        settings: dict[str, Any] = {
            "bundle_root": str(self.folder),
            "image": image,
            "output_dir": str(out),
            "weights_path": str(weights),
        }
        if device is not None:
            settings["device"] = device
        try:
            run_config(self.folder, self.configs, settings)
        except Exception as error:
            reason = reason_of(error)
            logger.exception("%s failed on %s", self.folder.name, image)
            if reason is not None:
                raise refused(reason) from error
            raise


class MapsInfer(BundleInfer):
    """One quantitative map of an image of any contrast, with a warning where no simulated protocol explains the image.

    Args:
        folder: of the bundle, whose weights find maps.
        metadata: content of its ``metadata.json``.
    """

    configs = ("inference.json", MAPS_OVERLAY)

    def __init__(self, folder: Path, metadata: Mapping[str, Any]) -> None:
        super().__init__(folder, metadata)
        self.description = "PD, R1, R2* or MTsat of a head of any contrast. Research only, not for clinical use."
        self._config.update(map=[*MAP_KEYS])  # clients offer them, the first by default

    def chosen(self, request: Mapping[str, Any]) -> Callable[[Path], tuple[Path, dict[str, Any]]]:
        """Return what finds the map that a request names by ``map``, and its row of the table of maps."""
        given = request.get("map") or MAP_KEYS[0]
        name = str(given[0] if isinstance(given, (list, tuple)) and given else given)
        if name not in MAP_KEYS:
            raise refused(f"map {name} is unknown: choose {', '.join(MAP_KEYS)}")

        def found(out: Path) -> tuple[Path, dict[str, Any]]:
            row = pd.read_csv(out / TABLE, keep_default_na=False).iloc[0]
            told = {"residual": float(row["residual"]), "protocol": row["protocol"], "warning": row["warning"]}
            return next(out.rglob(f"*_{name}.nii.gz")), {"map": name, **told}

        return found


def infer_of(folder: Path, metadata: Mapping[str, Any]) -> BundleInfer:
    """Return the inference of a served bundle."""
    return (MapsInfer if folder.name == PRETRAIN_BUNDLE else BundleInfer)(folder, metadata)


def _device(request: Mapping[str, Any]) -> torch.device | None:
    try:
        return as_device(request.get("device"))
    except InputError as error:
        raise refused(str(error)) from error


def _copy(source: Path, target: Path) -> None:
    """Copy a NIfTI file into one of the kind that its name says."""
    if target.name.endswith(".nii.gz"):
        shutil.copyfile(source, target)
        return
    import SimpleITK as sitk  # noqa: N813 - the name that its own pages use

    sitk.WriteImage(sitk.ReadImage(str(source)), str(target), useCompression=target.suffix == ".nrrd")
