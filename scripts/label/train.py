"""Training behind MONAI Label: the bundle's own, on the images whose labels are final."""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.train import TrainTask

from scripts.errors import InputError
from scripts.io.files import atomic_write
from scripts.label.doors import MAX_EPOCHS, MAX_VAL_SPLIT
from scripts.label.infer import refused
from scripts.label.own_scripts import reason_of, run_config
from scripts.label.served_bundles import RETRAINED
from scripts.label.values import as_device, as_number

__all__ = ["NO_LABELS", "BundleTrain"]

NO_LABELS = "no image has a final label: correct labels in the client and submit them first"

logger = logging.getLogger(__name__)


class BundleTrain(TrainTask):
    """A bundle's ``train.json`` from the weights that are served, its encoder frozen as ever.

    Args:
        folder: of the bundle; its ``models/model.pt`` is replaced at the end.
        metadata: content of its ``metadata.json``.
        app: folder of the server, whose ``mlruns.db`` keeps the runs.
    """

    def __init__(self, folder: Path, metadata: Mapping[str, Any], app: Path) -> None:
        super().__init__(f"Trains the decoder of {folder.name} on the images whose labels are final")
        self.folder = folder
        self.app = app
        self.version = metadata["version"]

    def info(self) -> dict[str, Any]:
        """Return what clients are told of the training."""
        return {**super().info(), "version": self.version}

    def config(self) -> dict[str, Any]:
        """Return the options of a training and their defaults."""
        return {"max_epochs": 10, "epoch_length": 50, "val_split": 0.2, "pretrained": True, "device": ["cuda", "cpu"]}

    def __call__(self, request: Mapping[str, Any], datastore: Any) -> dict[str, Any]:
        """Train, put the new weights in the place of those that are served, and return what was done.

        Args:
            request: `config`'s options; ``pretrained`` false starts from the untrained decoder.
            datastore: of the server.

        Raises:
            MONAILabelException: no image has a final label, or an image or a label cannot be used.
        """
        listed = [{"image": str(d["image"]), "label": str(d["label"])} for d in datastore.datalist() if d]
        if not listed:
            raise refused(NO_LABELS)
        options = self._options(request)
        data = _split(listed, options["val_split"])
        with tempfile.TemporaryDirectory(prefix=".training-", dir=self.folder) as scratch:
            settings = self._settings(Path(scratch), options, data)
            try:
                run_config(self.folder, ["train.json"], settings)
            except Exception as error:
                reason = reason_of(error)
                if reason is None:
                    raise
                raise refused(reason) from error
            made = Path(scratch) / "models" / "model.pt"
            atomic_write(self.folder / "models" / "model.pt", lambda part: shutil.copyfile(made, part))
        record = {
            "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "images": len(data["training"]),
            "validation_images": len(data["validation"]),
            "epochs": options["max_epochs"],
        }
        text = json.dumps(record, indent=2) + "\n"
        atomic_write(self.folder / RETRAINED, lambda part: part.write_text(text, encoding="utf-8"))
        logger.info("%s serves new weights: %s", self.folder.name, record)
        return record

    def _options(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a training, each of its kind and within its bounds."""
        given = {**self.config(), "device": None, **request}
        try:
            return {
                "max_epochs": as_number("max_epochs", given["max_epochs"], 1, MAX_EPOCHS),
                "epoch_length": as_number("epoch_length", given["epoch_length"], 1, MAX_EPOCHS),
                "val_split": as_number("val_split", given["val_split"], 0.0, MAX_VAL_SPLIT),
                "pretrained": str(given["pretrained"]).lower() == "true",
                "device": as_device(given["device"]),
            }
        except InputError as error:
            raise refused(str(error)) from error

    def _settings(self, scratch: Path, options: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
        epochs = options["max_epochs"]
        settings: dict[str, Any] = {
            "bundle_root": str(self.folder),
            "dataset_dir": "MONAI Label",
            "data": dict(data),
            "max_epochs": epochs,
            "epoch_length": options["epoch_length"],
            "val_interval": max(1, epochs // 5) if data["validation"] else epochs + 1,
            "resume": False,
            "num_workers": 0,
            "ckpt_dir": str(scratch / "models"),
            "output_dir": str(scratch / "eval"),
            "work_dir": str(scratch / "data"),
            "tracking_uri": f"sqlite:///{self.app / 'mlruns.db'}",
            "experiment": f"label_{self.folder.name}",
        }
        if options["pretrained"]:
            settings["start_weights"] = str(self.folder / "models" / "model.pt")
        if options["device"] is not None:
            settings["device"] = options["device"]
        return settings


def _split(listed: Sequence[Mapping[str, str]], share: float) -> dict[str, Any]:
    """Return labelled images as a bundle takes its data; the last of them, by name, validate."""
    entries = [{**entry, "subject": Path(entry["image"]).name, "site": "label"} for entry in listed]
    entries.sort(key=lambda entry: entry["subject"])
    n_validation = min(round(len(entries) * max(share, 0.0)), len(entries) - 1)
    split = len(entries) - n_validation
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(Path(entry["label"]).read_bytes())
    return {
        "training": entries[:split],
        "validation": entries[split:],
        "test": [],
        "cohort": "real",
        "dataset_dir": "MONAI Label",
        "subjects": f"{split} images labelled in MONAI Label",
        "sha256": digest.hexdigest(),
    }
