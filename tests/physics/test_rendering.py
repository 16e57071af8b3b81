"""Rendered images against the documented equations, worked out with `math`, and protocols that are refused."""

from __future__ import annotations

import inspect
import math
import re
from typing import Any

import pytest
import torch

from scripts.commands.networks import predict
from scripts.errors import InputError
from scripts.physics.rendering import RENDERED, render, rendered_protocol
from scripts.physics.sequences import DEFAULTS, OPTIONAL

PD, R1, R2STAR, MTSAT = 70.0, 0.95, 15.0, 1.5
R2 = 0.8 * R2STAR
WHITE = torch.tensor([PD, R1, R2STAR, MTSAT]).view(4, 1, 1, 1)


def spoiled(tr: float, te: float, degrees: float, saturation: float) -> float:
    e, a = math.exp(-tr * R1), math.radians(degrees)
    steady = (1 - saturation) * (1 - e) / (1 - math.cos(a) * (1 - saturation) * e)
    return PD * math.sin(a) * steady * math.exp(-te * R2STAR)


@pytest.mark.parametrize(
    ("sequence", "parameters", "expected"),
    [
        ("fse", {"te": 0.08, "tr": 4.0}, PD * (1 - math.exp(-4 * R1)) * math.exp(-0.08 * R2)),
        (
            "flair",
            {"te": 0.09, "tr": 8.0, "ti": 2.3},
            PD * (1 - 2 * math.exp(-2.3 * R1) + math.exp(-8 * R1)) * math.exp(-0.09 * R2),
        ),
        ("gre", {"te": 0.004, "tr": 0.02, "flip_angle": 18.0}, spoiled(0.02, 0.004, 18, 0)),
        ("gre_mt", {"te": 0.004, "tr": 0.03, "flip_angle": 7.0}, spoiled(0.03, 0.004, 7, MTSAT / 100)),
        ("mprage", {}, 2.1712584 * math.exp(0.003 * 6)),  # nitorch's at an R2* of 21, see physics_golden.json
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_is_the_signal_of_the_equation(sequence: str, parameters: dict[str, float], expected: float) -> None:
    image = render(WHITE, rendered_protocol(sequence, parameters))
    assert image.shape == (1, 1, 1, 1)
    assert image.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sequence", RENDERED)
def test_air_is_dark_and_what_is_left_out_is_typical(sequence: str) -> None:
    protocol = rendered_protocol(sequence, dict.fromkeys(DEFAULTS[sequence]))
    assert protocol == rendered_protocol(sequence)
    assert protocol.parameters == DEFAULTS[sequence]
    assert render(torch.zeros(4, 2, 2, 2), protocol).abs().max() == 0


@pytest.mark.parametrize(
    ("sequence", "parameters", "line"),
    [
        ("mp2rage", {}, "render mp2rage: no such sequence, choose mprage, gre, gre_mt, fse, flair"),
        ("FLAIR", {}, "render FLAIR: no such sequence"),
        ("fse", {"ti": 1.0}, "render fse: it has no ti, leave that out; it has tr, te"),
        ("mprage", {"closed_form": 1}, "render mprage: it has no closed_form"),
        ("fse", {"te": "0.1"}, "render fse: te is '0.1': give a number, in seconds or degrees"),
        ("fse", {"te": True}, "render fse: te is True"),
        ("fse", {"te": math.nan}, "render fse: te is nan"),
        ("fse", {"te": 90}, "render fse: TE does not lie between 0 and TR .tr 5, te 90; s and degrees.: change these"),
        ("gre", {"flip_angle": 120.0}, "render gre: a flip angle does not lie between 0 and 90 degrees"),
        ("flair", {"ti": 0.5}, "render flair: TI is far from the null of CSF"),
        ("mprage", {"ti": 0.3}, "render mprage: the train begins before the inversion"),
        ("mprage", {"n": 100.5}, "render mprage: the number of pulses is not a whole number"),
    ],
    ids=str,
)
def test_what_no_scanner_could_run_is_refused(sequence: str, parameters: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=f"^{line}"):
        rendered_protocol(sequence, parameters)


def test_the_help_of_the_command_tells_the_typical_values() -> None:
    said = " ".join((inspect.getdoc(predict) or "").split())
    options = inspect.signature(predict).parameters
    for sequence in RENDERED:
        typical = {name: value for name, value in DEFAULTS[sequence].items() if name not in OPTIONAL}
        assert set(typical) <= set(options)
        found = re.search(rf"\b{sequence} \(([^)]*)\)", said)
        assert found is not None
        told = found[1].replace(" degrees", "").replace(" s", "")
        shown = [typical[name] for name in ("tr", "te", "ti", "flip_angle") if name in typical]
        assert [float(number) for number in re.findall(r"[\d.]+", told)] == shown
    for name in ("tx", "n", "efficiency"):
        assert f"default {DEFAULTS['mprage'][name]:g}" in said
