"""The three priors over acquisition parameters that the project ships, as plain JSON values.

Seconds and degrees. A value is a number or one of the distributions that `scripts.physics.distributions`
lists; a list of priors for one sequence holds alternatives that are drawn equally often; `feasible` asks for
timings that a scanner could run.
"""

from __future__ import annotations

import copy
from typing import Any

__all__ = ["PRESETS", "preset_prior"]

PRESETS = ("paper", "released", "physical")

_GRE_PAPER: dict[str, Any] = {
    "te": {"loguniform": [0.002, 0.08]},
    "tr": {"loguniform": [0.005, 5.0]},
    "flip_angle": {"uniform": [5.0, 50.0]},
}

# Table 5 of the paper. Its MPRAGE TR, "N(23, 2.3)", is 2.3 s with the decimal point lost: the authors' code
# draws N(2.3, 0.23), and 23 s would turn the contrast round (CSF brightest). The printed value is the
# override {"preset": "paper", "mprage": {"tr": {"normal": [23, 2.3]}}}. Table 5 leaves out the number of
# pulses and the inversion's efficiency; they are those of the authors' code at the time. MPRAGE is the steady
# state, as in that code; {"preset": "paper", "mprage": {"closed_form": 1}} draws the formula that Table 4
# prints.
_PAPER: dict[str, Any] = {
    "fse": {"te": {"loguniform": [0.001, 3.0]}, "tr": {"loguniform": [0.001, 3.0]}},
    "gre_mt": _GRE_PAPER,
    "flair": {
        "te": {"loguniform": [0.02, 0.1]},
        "tr": {"loguniform": [0.001, 5.0]},
        "ti": {"loguniform": [0.001, 3.0]},
    },
    "mprage": {
        "tr": {"normal": [2.3, 0.23]},
        "ti": {"uniform": [0.6, 0.9]},
        "te": {"uniform": [0.002, 0.004]},
        "tx": {"uniform": [0.004, 0.008]},
        "flip_angle": {"uniform": [5.0, 12.0]},
        "n": {"normal": [160, 16]},
        "efficiency": {"normal": [0.96, 0.096]},
    },
}

# The ranges of the authors' last published code. Left out is its receive gain, U(0.3, 7): a constant factor
# that any normalisation removes. FLAIR is a magnitude here and MTsat a percentage; both differ from that
# code.
_RELEASED: dict[str, Any] = {
    "fse": {"te": {"loguniform": [0.02, 0.15]}, "tr": {"loguniform": [2.0, 8.0]}},
    "gre": _GRE_PAPER,
    "gre_mt": {**_GRE_PAPER, "tr": {"loguniform": [0.005, 0.8]}},
    "flair": {
        "te": {"log10normal": [0.02, 0.1]},
        "tr": {"loguniform": [0.001, 5.0]},
        "ti": {"loguniform": [0.001, 3.0]},
    },
    "mprage": {
        "tr": {"uniform": [1.9, 2.5]},
        "ti": {"uniform": [0.6, 1.2]},
        "te": {"uniform": [0.002, 0.004]},
        "tx": {"times": ["te", 2]},
        "flip_angle": {"uniform": [5.0, 12.0]},
        "n": {"uniform": [100, 200]},
        "efficiency": {"uniform": [0.8, 1.0]},
    },
    "mp2rage": {
        "tr": {"normal": [2.3, 0.23]},
        "ti1": {"uniform": [0.6, 0.9]},
        "ti2": {"normal": [2.2, 0.22]},
        "te": {"log10normal": [0.0029, 0.5]},
        "tx": {"log10normal": [0.0058, 0.5]},
        "flip_angle1": {"uniform": [3.0, 6.0]},
        "flip_angle2": {"uniform": [3.0, 6.0]},
        "n": {"normal": [160, 16]},
        "efficiency": {"normal": [0.96, 0.096]},
    },
}

# Ranges of clinical and research protocols. FSE: T2-, PD- and T1-weighted; GRE: T1-, PD- and T2*-weighted.
_PHYSICAL: dict[str, Any] = {
    "fse": [
        {"feasible": True, "te": {"uniform": [0.07, 0.15]}, "tr": {"uniform": [3.0, 8.0]}},
        {"feasible": True, "te": {"uniform": [0.008, 0.035]}, "tr": {"uniform": [2.0, 6.0]}},
        {"feasible": True, "te": {"uniform": [0.008, 0.02]}, "tr": {"uniform": [0.4, 0.8]}},
    ],
    "gre": [
        {
            "feasible": True,
            "te": {"uniform": [0.002, 0.008]},
            "tr": {"uniform": [0.012, 0.04]},
            "flip_angle": {"uniform": [15.0, 35.0]},
        },
        {
            "feasible": True,
            "te": {"uniform": [0.002, 0.008]},
            "tr": {"uniform": [0.02, 0.05]},
            "flip_angle": {"uniform": [3.0, 8.0]},
        },
        {
            "feasible": True,
            "te": {"uniform": [0.015, 0.04]},
            "tr": {"uniform": [0.4, 1.0]},
            "flip_angle": {"uniform": [12.0, 30.0]},
        },
    ],
    "gre_mt": {
        "feasible": True,
        "te": {"uniform": [0.002, 0.008]},
        "tr": {"uniform": [0.022, 0.05]},
        "flip_angle": {"uniform": [5.0, 15.0]},
    },
    "flair": {
        "feasible": True,
        "te": {"uniform": [0.08, 0.15]},
        "tr": {"uniform": [5.0, 11.0]},
        "ti": {"uniform": [1.6, 2.9]},
    },
    "mprage": {
        "tr": {"uniform": [1.7, 2.7]},
        "ti": {"uniform": [0.75, 1.15]},
        "feasible": True,
        "te": {"uniform": [0.002, 0.0045]},
        "tx": {"uniform": [0.0055, 0.009]},
        "flip_angle": {"uniform": [7.0, 12.0]},
        "n": {"uniform": [120, 208]},
        "efficiency": {"uniform": [0.9, 1.0]},
    },
    "mp2rage": {
        "tr": {"uniform": [4.5, 6.5]},
        "ti1": {"uniform": [0.65, 1.0]},
        "ti2": {"uniform": [2.2, 3.3]},
        "feasible": True,
        "te": {"uniform": [0.002, 0.0035]},
        "tx": {"uniform": [0.0055, 0.0075]},
        "flip_angle1": {"uniform": [4.0, 7.0]},
        "flip_angle2": {"uniform": [3.0, 6.0]},
        "n": {"uniform": [140, 180]},
        "efficiency": {"uniform": [0.93, 1.0]},
    },
}

_PRIORS = {"paper": _PAPER, "released": _RELEASED, "physical": _PHYSICAL}


def preset_prior(preset: str) -> dict[str, Any]:
    """Return a copy of the prior named ``preset``, one of `PRESETS`.

    Examples:
        >>> preset_prior("paper")["mprage"]["ti"]
        {'uniform': [0.6, 0.9]}
    """
    return copy.deepcopy(_PRIORS[preset])
