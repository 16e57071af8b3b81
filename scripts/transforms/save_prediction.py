"""Writing of predictions on the grid of the image that a user gave, whatever the network saw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms.transform import Transform
from numpy.typing import NDArray
from torch import Tensor

from scripts.errors import InputError
from scripts.io.header import ImageHeader
from scripts.io.read import read_header, read_volume
from scripts.io.resample import onto
from scripts.io.write import write_like
from scripts.switches import is_on
from scripts.transforms.output_names import OutputNames
from scripts.transforms.volume_table import add_volumes

__all__ = ["SavePrediction"]

TABLE = "volumes.csv"
_SUFFIXES = {"labels": "seg", "denoised": "denoised"}


class SavePrediction(Transform):
    """Save what a network predicted for one volume, on the grid of its file.

    In: a dictionary with the image, a `MetaTensor` (1, I, J, K) that knows its file and affine, and the
    prediction, (C, I, J, K), on the same grid. Out: the same with the names of the written files added
    (``prediction_file``, ``probabilities_file``) and the prediction replaced by what was written, (1, X, Y, Z).

    - ``labels``: logits of background and classes become ``<name>_<suffix>.nii.gz``, the labels (X, Y, Z), uint8
      (int16 from 257 classes on), by nearest neighbour; and rows in ``<output_dir>/volumes.csv``. With
      ``probabilities`` also ``<name>_probabilities.nii.gz``, (X, Y, Z, C) float32, trilinear; background is what
      the classes leave of 1, also where the network saw nothing.
    - ``denoised``: predicted noise (1, I, J, K) in units of the image's meta ``deviation`` is subtracted from the
      voxels of the file: ``<name>_<suffix>.nii.gz``, (X, Y, Z) float32 in its intensity units. Noise goes to the
      file's grid trilinearly, where the network saw another; the image itself is never resampled.

    Args:
        output_dir: folder to write to. One process at a time may write to its ``volumes.csv``.
        kind: ``labels`` or ``denoised``.
        classes: value -> name of each class but the background, 0; default: ``class 1`` and so on.
        probabilities: write them too.
        suffix: end of the file's name; default: ``seg`` or ``denoised``.
        data_root_dir: where set, folders of the image below it are kept below ``output_dir``.
        image_key: key of the image.
        prediction_key: key of the prediction.

    Raises:
        InputError: unknown ``kind``, or ``output_dir`` is a file.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        kind: Literal["labels", "denoised"],
        classes: Mapping[Any, str] | None = None,
        probabilities: bool = False,
        suffix: str | None = None,
        data_root_dir: str | Path = "",
        image_key: str = "image",
        prediction_key: str = "pred",
    ) -> None:
        if kind not in _SUFFIXES:
            raise InputError(f"kind={kind!r} is unknown: choose labels or denoised")
        if Path(output_dir).is_file():
            raise InputError(f"output_dir {output_dir} is a file: give a folder")
        self.names = OutputNames(output_dir, data_root_dir)
        self.kind = kind
        self.classes = None if classes is None else {int(value): str(name) for value, name in classes.items()}
        self.probabilities = is_on(probabilities, "probabilities")
        self.suffix = suffix or _SUFFIXES[kind]
        self.image_key = image_key
        self.prediction_key = prediction_key

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Write the files of one volume, each whole or not at all.

        Raises:
            InputError: the image does not know its file, would overwrite what another image of this run wrote,
                has another grid than the prediction; or the prediction holds NaN or other channels than expected.
        """
        image = data[self.image_key]
        source, target = self.names.claim(image, self.image_key)
        values = data[self.prediction_key].detach().as_subclass(Tensor).cpu().float()
        if values.ndim != 4 or values.shape[1:] != image.shape[1:]:
            raise InputError(
                f"{source}: the prediction, {tuple(values.shape)}, does not lie on the grid of the image, "
                f"{tuple(image.shape[1:])}: give (C, I, J, K) on that grid"
            )
        if not bool(values.isfinite().all()):
            raise InputError(f"{source}: the prediction holds NaN or Inf: check the network's weights")
        predicted = MetaTensor(values, affine=image.affine.cpu())
        header = read_header(source)
        save = self._save_labels if self.kind == "labels" else self._save_denoised
        files, written = save(predicted, image, header, target)
        result = MetaTensor(torch.from_numpy(written)[None], affine=torch.from_numpy(header.affine))
        result.meta["filename_or_obj"] = source
        return {**data, self.prediction_key: result, **{f"{name}_file": str(path) for name, path in files.items()}}

    def _save_labels(
        self, logits: MetaTensor, _image: MetaTensor, header: ImageHeader, target: Path
    ) -> tuple[dict[str, Path], NDArray[Any]]:
        classes = self._named(len(logits), header)
        values = logits.as_subclass(Tensor)
        kind = torch.uint8 if len(values) <= 256 else torch.int16
        best = MetaTensor(values.argmax(dim=0, keepdim=True).to(kind), affine=logits.affine)
        labels = onto(best, header.affine, header.shape, "nearest")[0].numpy()
        files = {"prediction": write_like(_named_file(target, self.suffix), labels, header.place)}
        if self.probabilities:
            shares = _probabilities(logits, header)
            files["probabilities"] = write_like(_named_file(target, "probabilities"), shares, header.place)
        relative = files["prediction"].relative_to(self.names.output_dir).as_posix()
        table = self.names.output_dir / TABLE
        add_volumes(table, str(header.path), relative, labels, header.affine, classes)
        return files, labels

    def _save_denoised(
        self, noise: MetaTensor, image: MetaTensor, header: ImageHeader, target: Path
    ) -> tuple[dict[str, Path], NDArray[Any]]:
        if len(noise) != 1 or "deviation" not in image.meta:
            raise InputError(
                f"{header.path}: denoising needs predicted noise of one channel (got {len(noise)}) and the image's "
                "deviation: normalise it with NormaliseForegroundd"
            )
        voxels, affine = read_volume(header.path)
        given = onto(MetaTensor(torch.from_numpy(voxels[None]), affine=affine), header.affine, header.shape, "nearest")
        denoised = (given - onto(noise, header.affine, header.shape, "bilinear") * float(image.meta["deviation"]))[
            0
        ].numpy()
        return {"prediction": write_like(_named_file(target, self.suffix), denoised, header.place)}, denoised

    def _named(self, n_channels: int, header: ImageHeader) -> dict[int, str]:
        """Return the classes by value, after checking that the network has them."""
        expected = list(range(1, n_channels))
        classes = {value: f"class {value}" for value in expected} if self.classes is None else self.classes
        if not expected or sorted(classes) != expected:
            raise InputError(
                f"{header.path}: the network gives {n_channels} channels for the classes {classes}: "
                "it needs one for the background and one for each class"
            )
        return classes


def _probabilities(logits: MetaTensor, header: ImageHeader) -> NDArray[np.float32]:
    """Return the probabilities of background and classes on the grid of the file, (X, Y, Z, C)."""
    shares = torch.softmax(logits.as_subclass(Tensor), dim=0)[1:]
    own = onto(MetaTensor(shares, affine=logits.affine), header.affine, header.shape, "bilinear")
    background = (1 - own.sum(dim=0, keepdim=True)).clamp(min=0)
    return cast("NDArray[np.float32]", torch.cat([background, own]).movedim(0, -1).contiguous().numpy())


def _named_file(target: Path, suffix: str) -> Path:
    return target.with_name(f"{target.name}_{suffix}.nii.gz")
