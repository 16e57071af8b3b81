"""The app that MONAI Label loads, in its server and in the process of each training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import ImageNotFoundException
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.train import TrainTask

from scripts.errors import InputError
from scripts.io.header import check_same_grid
from scripts.io.read import read_header
from scripts.label.infer import BundleInfer, refused
from scripts.label.train import BundleTrain

__all__ = ["BundlesApp"]


class BundlesApp(MONAILabelApp):
    """Serves the bundles that lie in ``model`` of its folder.

    Args:
        app_dir: folder of the app.
        studies: folder of the images.
        conf: ``bundles``, the names of those to serve, joined by commas; default: all.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str] | None) -> None:
        folder = Path(app_dir) / "model"
        named = (conf or {}).get("bundles", "")
        names = named.split(",") if named else sorted(path.name for path in folder.iterdir() if path.is_dir())
        self.bundles = {name: folder / name for name in names}
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf or {},
            name="Sequence-invariant MRI bundles",
            description="Tissue, stroke lesions and denoising on MRI of the head. Research only, not for clinical use",
            version="0.1.0",
        )

    def init_datastore(self) -> Datastore:
        """Return the images and their labels."""
        return _Studies(
            self.studies,
            extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """Return the models by name."""
        return {name: BundleInfer(folder, _metadata(folder)) for name, folder in self.bundles.items()}

    def init_trainers(self) -> dict[str, TrainTask]:
        """Return the trainings by name: of those models that learn from labels."""
        return {
            name: BundleTrain(folder, _metadata(folder), Path(self.app_dir))
            for name, folder in self.bundles.items()
            if BundleInfer(folder, _metadata(folder)).gives_labels
        }

    def infer(self, request: dict[str, Any], datastore: Any = None) -> Any:
        """Infer; besides an image's name, ``image`` may be that of a folder of a DICOM series in the studies.

        Raises:
            ImageNotFoundException: no image is called so.
        """
        image = request.get("image")
        if isinstance(image, str) and request.get("model") in self.bundles and not Path(image).exists():
            studies = Path(self.studies).resolve()
            series = (studies / image).resolve()
            if series.is_dir() and series.is_relative_to(studies):
                request = {**request, "image": str(series)}
            elif not (datastore or self.datastore()).get_image_uri(image):
                raise ImageNotFoundException(f"there is no image {image!r} in {studies}")
        return super().infer(request, datastore)

    def init_batch_infer(self) -> Callable[..., Any]:
        """Return inference of many images."""
        return _Batch()


class _Studies(LocalDatastore):
    """Images and labels; one that does not lie on the grid of its image is refused before it replaces another."""

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        image = self.get_image_uri(image_id)
        if image:
            try:
                check_same_grid(read_header(image), read_header(label_filename))
            except InputError as error:
                # the file has a name of the server's own until it is kept
                reason = str(error).replace(str(label_filename), f"the label of {image_id}")
                raise refused(reason) from error
        return str(super().save_label(image_id, label_filename, label_tag, label_info))


class _Batch(BatchInferTask):
    """One image after another, on a GPU if there is one: by default MONAI Label counts on GPUs."""

    def __call__(self, request: Any, datastore: Any, infer: Any) -> Any:
        gpu = torch.cuda.is_available()
        own = {"multi_gpu": gpu and request.get("multi_gpu", True), "max_workers": 1}
        return super().__call__({**request, **own, **({} if gpu else {"device": "cpu"})}, datastore, infer)


def _metadata(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8")))
