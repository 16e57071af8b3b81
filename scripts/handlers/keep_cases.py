"""The best, the median and the worst case of an evaluation, kept as volumes to look at."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.networks.utils import eval_mode
from torch import Tensor

from scripts.io.files import atomic_write
from scripts.io.resample import to_grid
from scripts.ranks import rank
from scripts.switches import is_on

__all__ = ["KeepCases", "rank_cases"]

CASES = "cases"


def rank_cases(scores: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the best, the median and the worst subject, those of one score in the order of their names.

    Args:
        scores: tidy table of an evaluation; a subject's classes are averaged.
        metric: to rank by, higher is better.

    Returns:
        ``rank`` (best, median, worst), ``subject``, ``site``, ``metric``, ``value``; one subject may be several.
    """
    means = scores[scores["metric"] == metric].groupby(["subject", "site"], as_index=False)["value"].mean()
    ordered = means.sort_values(["value", "subject"], ascending=[False, True], kind="stable", ignore_index=True)
    last = len(ordered) - 1
    chosen = ordered.iloc[[0, last // 2, last]].reset_index(drop=True)
    columns = ["rank", "subject", "site", "metric", "value"]
    return chosen.assign(rank=["best", "median", "worst"], metric=metric)[columns]


class KeepCases:
    """Predict three subjects once more after an evaluation, and keep image, truth and prediction as NIfTI files.

    They go to ``cases/<rank>_{image,truth,prediction}.nii.gz`` on the grid of the network's input, cut to the head;
    ``cases.csv`` says who they are. With a key ``clean`` in a sample (denoising) the truth is the clean image, the
    prediction the denoised one; else both are labels.

    Args:
        metric: that ranks the subjects, higher is better.
        keep: False keeps none.
    """

    def __init__(self, metric: str = "DSC", keep: Any = True) -> None:
        self.metric = metric
        self.keep = is_on(keep, "keep_cases")

    def attach(self, engine: Engine) -> None:
        """Nothing to follow: all is done at the end."""

    def write(self, engine: Any, scores: pd.DataFrame, output_dir: Path) -> Path | None:
        """Write the files and their table, on rank 0; return the table's path."""
        if not self.keep or rank() != 0:
            return None
        cases = rank_cases(scores, self.metric)
        files = {name: self._save(engine, name, output_dir / CASES, cases) for name in cases["subject"].unique()}
        rows = [{**case, **files[case["subject"]]} for case in cases.to_dict("records")]
        return atomic_write(output_dir / "cases.csv", lambda part: pd.DataFrame(rows).to_csv(part, index=False))

    def _save(self, engine: Any, subject: str, folder: Path, cases: pd.DataFrame) -> dict[str, str]:
        sample = _predicted(engine, subject)
        first = cases.loc[cases["subject"] == subject, "rank"].iloc[0]
        image: MetaTensor = sample["image"]
        affine = image.affine.cpu().numpy()
        paths = {}
        for what, volume in _volumes(sample).items():
            path = (folder / f"{first}_{what}.nii.gz").absolute()
            nifti = nib.Nifti1Image(volume, affine)
            nifti.header.set_xyzt_units("mm")
            atomic_write(path, partial(nib.save, nifti))
            paths[what] = str(path)
        return paths


def _predicted(engine: Any, subject: str) -> dict[str, Any]:
    """Return the sample of a test subject with the network's answer, ``pred`` (C, I, J, K)."""
    dataset = engine.data_loader.dataset
    place = next(n for n, entry in enumerate(dataset.data) if str(entry["subject"]) == subject)
    sample: dict[str, Any] = dataset[place]
    inputs = sample["image"].as_subclass(Tensor)[None].to(engine.state.device)
    with torch.no_grad(), eval_mode(engine.network), torch.autocast(inputs.device.type, enabled=engine.amp):
        return {**sample, "pred": engine.inferer(inputs, engine.network)[0].float().cpu()}


def _volumes(sample: Mapping[str, Any]) -> dict[str, np.ndarray]:
    image, predicted = sample["image"], sample["pred"]
    plain = image.as_subclass(Tensor)[0].float()
    if "clean" in sample:
        clean = sample["clean"].as_subclass(Tensor)[0].float()
        return {"image": plain.numpy(), "truth": clean.numpy(), "prediction": (plain - predicted[0]).numpy()}
    truth = to_grid(sample["truth"].cpu(), image.affine.cpu(), image.shape[1:], "nearest").as_subclass(Tensor)[0]
    labels = predicted.argmax(0)
    return {"image": plain.numpy(), "truth": truth.byte().numpy(), "prediction": labels.byte().numpy()}
