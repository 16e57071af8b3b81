"""The commands of ``python -m scripts``: their names and options; what they do stands where they import it from."""

from __future__ import annotations

from typing import Any

from scripts.commands import data, experiment, networks, sharing

__all__ = ["COMMANDS"]

COMMANDS: dict[str, Any] = {
    "cohort": {"qmri": data.cohort_qmri, "ixi": data.cohort_ixi, "arc": data.cohort_arc},
    "prepare": {"ixi": data.prepare_ixi, "arc": data.prepare_arc, "qmri": data.prepare_qmri},
    "benchmark": {
        "gpu": networks.benchmark_gpu,
        "inference": networks.benchmark_inference,
        "views": networks.benchmark_views,
    },
    "demo": networks.demo,
    "experiment": {"run": experiment.run, "report": experiment.report, "compare": experiment.compare},
    "export": {"encoder": sharing.export_encoder},
    "gallery": networks.gallery,
    "label": sharing.label,
    "package": sharing.package,
    "predict": networks.predict,
    "weights": sharing.weights,
}
