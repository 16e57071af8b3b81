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
from ignite.engine import Engine, Events
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
    """Keep image, truth and prediction of three subjects of an evaluation as NIfTI files.

    Predictions are held in memory until it is known which they are; those for which that has no room are made once
    more. They go to ``cases/<rank>_{image,truth,prediction}.nii.gz`` on the grid of the network's input, cut to the
    head; ``cases.csv`` says who they are. With a key ``clean`` in a sample (denoising) the truth is the clean image and
    the prediction the denoised one; else both are labels.

    Args:
        metric: that ranks the subjects, higher is better.
        keep: False keeps none.
        room: memory for predictions [bytes].
    """

    def __init__(self, metric: str = "DSC", keep: Any = True, room: int = 2**28) -> None:
        self.metric = metric
        self.keep = is_on(keep, "keep_cases")
        self.room = room
        self.held: dict[str, np.ndarray] = {}

    def attach(self, engine: Engine) -> None:
        """Hold the predictions of ``engine``."""
        if self.keep:
            engine.add_event_handler(Events.STARTED, lambda _: self.held.clear())
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._hold)

    def write(self, engine: Any, scores: pd.DataFrame, output_dir: Path) -> Path | None:
        """Write the files and their table, on rank 0; return the table's path."""
        if not self.keep or rank() != 0:
            return None
        cases = rank_cases(scores, self.metric)
        files = {name: self._save(engine, name, output_dir / CASES, cases) for name in cases["subject"].unique()}
        rows = [{**case, **files[case["subject"]]} for case in cases.to_dict("records")]
        return atomic_write(output_dir / "cases.csv", lambda part: pd.DataFrame(rows).to_csv(part, index=False))

    def _hold(self, engine: Any) -> None:
        # MONAI keeps what the loader gave in the batch and what was added in the output
        for given, added in zip(engine.state.batch, engine.state.output, strict=True):
            predicted = _answer({**given, **added})
            if sum(volume.nbytes for volume in self.held.values()) + predicted.nbytes <= self.room:
                self.held[str(given["subject"])] = predicted

    def _save(self, engine: Any, subject: str, folder: Path, cases: pd.DataFrame) -> dict[str, str]:
        sample = _sample(engine, subject)
        answer = self.held.get(subject)
        answer = _answer({**sample, "pred": _predicted(engine, sample)}) if answer is None else answer
        first = cases.loc[cases["subject"] == subject, "rank"].iloc[0]
        image: MetaTensor = sample["image"]
        affine = image.affine.cpu().numpy()
        paths = {}
        for what, volume in _volumes(sample, answer).items():
            path = (folder / f"{first}_{what}.nii.gz").absolute()
            nifti = nib.Nifti1Image(volume, affine)
            nifti.header.set_xyzt_units("mm")
            atomic_write(path, partial(nib.save, nifti))
            paths[what] = str(path)
        return paths


def _sample(engine: Any, subject: str) -> dict[str, Any]:
    dataset = engine.data_loader.dataset
    sample: dict[str, Any] = dataset[next(n for n, e in enumerate(dataset.data) if str(e["subject"]) == subject)]
    return sample


def _predicted(engine: Any, sample: dict[str, Any]) -> Tensor:
    """Return the network's answer (C, I, J, K) on a sample, as the evaluation asks for it."""
    batch = engine.prepare_batch(engine.data_loader.collate_fn([sample]), engine.state.device, False)
    args, options = batch[2:] if len(batch) == 4 else ((), {})
    device = torch.device(engine.state.device)
    with torch.no_grad(), eval_mode(engine.network), torch.autocast(device.type, enabled=engine.amp):
        answer: Tensor = engine.inferer(batch[0], engine.network, *args, **options)[0]
    return answer.float()


def _answer(sample: Mapping[str, Any]) -> np.ndarray:
    """Return the prediction of a sample (I, J, K): labels as bytes, or the predicted noise."""
    predicted = sample["pred"].detach().as_subclass(Tensor).cpu()
    return np.asarray(predicted[0].float() if "clean" in sample else predicted.argmax(0).byte())


def _volumes(sample: Mapping[str, Any], answer: np.ndarray) -> dict[str, np.ndarray]:
    image = sample["image"]
    plain = image.as_subclass(Tensor)[0].float().numpy()
    if "clean" in sample:
        clean = sample["clean"].as_subclass(Tensor)[0].float().numpy()
        return {"image": plain, "truth": clean, "prediction": plain - answer}
    truth = to_grid(sample["truth"].cpu(), image.affine.cpu(), image.shape[1:], "nearest").as_subclass(Tensor)[0]
    return {"image": plain, "truth": truth.byte().numpy(), "prediction": answer}
