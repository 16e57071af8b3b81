from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scripts.physics import flair, fse, gre, mp2rage, mprage

GOLDEN = json.loads(Path(__file__).with_name("physics_golden.json").read_text())
MPRAGE = {"tr": 2.3, "ti": 0.9, "tx": 0.006, "te": 0.003, "fa": 9, "n": 160, "eff": 0.96}


def evaluate(case: dict[str, Any], dtype: torch.dtype) -> Tensor:
    pd, r1, r2star, mtsat = (
        torch.tensor(GOLDEN["tissues"][name], dtype=dtype) for name in ("pd", "r1", "r2s", "mt_pu")
    )
    p = dict(case["params"])
    match case["seq"]:
        case "mprage":
            # Its author's default spacing of pulses is twice the echo time, where one is given.
            p = {**MPRAGE, **({"tx": 2 * p["te"]} if "te" in p else {}), **p}
            renamed = {"flip_angle": p.pop("fa"), "efficiency": p.pop("eff")}
            return mprage(pd, r1, r2star, **p, **renamed)
        case "mp2rage_combined":
            renamed = {"flip_angles": p.pop("fa"), "efficiency": p.pop("eff")}
            return mp2rage(pd, r1, r2star, **p, **renamed)
        case "fse":
            return fse(pd, r1, r2star, **p)
        case "flair_signed":
            return flair(pd, r1, r2star, **p)
        case "gre(no mt)":
            return gre(pd, r1, r2star, None, te=p["te"], tr=p["tr"], flip_angle=p["fa"])
        case "spgr_mt_div100":
            return gre(pd, r1, r2star, mtsat, te=p["te"], tr=p["tr"], flip_angle=p["fa"])
        case "spgr_mt_as_fraction_of_pu(bug)":
            return gre(pd, r1, r2star, 100 * mtsat, te=p["te"], tr=p["tr"], flip_angle=p["fa"])
    raise AssertionError(case["seq"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["seq"])
def test_equals_nitorch(case: dict[str, Any], dtype: torch.dtype) -> None:
    """To 1e-5 of the brightest tissue: the golden values are float32, rounded by 1 - q and signal nulls."""
    expected = torch.tensor(case["signal"], dtype=dtype)
    if case["seq"] == "flair_signed":
        expected = expected.abs()
    difference = (evaluate(case, dtype) - expected).abs().max() / expected.abs().max()
    assert difference < 1e-5
