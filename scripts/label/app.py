"""The app that MONAI Label loads, in its server and in the process of each training."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.exception import ImageNotFoundException
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.others.generic import strtobool

from scripts.label.infer import infer_of, refused
from scripts.label.studies import Studies
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
            description="Tissue, lesions, denoising and maps on MRI of the head. Research only, not for clinical use",
            version="0.1.0",
        )

    def init_datastore(self) -> Datastore:
        """Return the images and their labels."""
        return Studies(
            self.studies,
            extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def init_infers(self) -> dict[str, InferTask]:
        """Return the models by name."""
        return {name: infer_of(folder, _metadata(folder)) for name, folder in self.bundles.items()}

    def init_trainers(self) -> dict[str, TrainTask]:
        """Return the trainings by name: of those models that learn from labels."""
        return {
            name: BundleTrain(folder, _metadata(folder), Path(self.app_dir))
            for name, folder in self.bundles.items()
            if infer_of(folder, _metadata(folder)).gives_labels
        }

    def infer(self, request: dict[str, Any], datastore: Any = None) -> dict[str, Any]:
        """Infer.

        Args:
            request: ``model``; ``image``, the name of an image or of a folder of a DICOM series in the studies, or a
                file that the server has put aside; options of the model.
            datastore: of the server.

        Raises:
            MONAILabelException: there is no such model or image.
        """
        model, image = request.get("model"), str(request.get("image", ""))
        if model not in self.bundles:
            raise refused(f"There is no model {model!r}: choose {', '.join(self.bundles)}")
        studies = datastore or self.datastore()
        path = self._image(image, studies)
        file, told = self._infers[model]({**request, "image": path})
        label = file
        if strtobool(request.get("save_label", False)) and path == studies.get_image_uri(image):
            tag = request.get("label_tag", DefaultLabelTag.ORIGINAL)
            label = studies.save_label(image, file, tag, {"model": model, "params": told})
        return {"label": label, "tag": DefaultLabelTag.ORIGINAL, "file": file, "params": told}

    def _image(self, image: str, studies: Any) -> str:
        """Return where an image lies: in the studies, or where the server has put what was sent."""
        given = Path(image)
        if given.is_absolute():
            place = given.resolve()
            sent = place.parent == Path(tempfile.gettempdir()).resolve() and place.name.startswith("tmp")
            if sent or place.is_relative_to((Path(self.app_dir) / "sessions").resolve()):
                return image
            raise refused("image is no name: give that of an image, without folders or ending")
        found = str(studies.get_image_uri(image))
        if found:
            return found
        folder = Path(self.studies).resolve()
        series = (folder / image).resolve()
        if image and series.is_dir() and series.parent == folder:
            return str(series)
        raise ImageNotFoundException(f"there is no image {image!r} in {folder}")

    def init_batch_infer(self) -> Callable[..., Any]:
        """Return inference of many images."""
        return _Batch()


class _Batch(BatchInferTask):
    """One image after another, on a GPU if there is one: by default MONAI Label counts on GPUs."""

    def __call__(self, request: Any, datastore: Any, infer: Any) -> Any:
        gpu = torch.cuda.is_available()
        own = {"multi_gpu": gpu and request.get("multi_gpu", True), "max_workers": 1}
        return super().__call__({**request, **own, **({} if gpu else {"device": "cpu"})}, datastore, infer)


def _metadata(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8")))
