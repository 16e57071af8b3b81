"""The table of an encoder's invariance in words, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

__all__ = ["format_table", "untrained_warning"]


def untrained_warning(table: pd.DataFrame) -> str:
    """Return a warning where retrieval across sequences is clearly below that of the untrained encoder, else nothing.

    Args:
        table: the result of `InvarianceReport.table`, of the encoders ``pretrained`` and ``random``.
    """
    rows = table[(table["metric"] == "retrieval_top1") & (table["level"] == "pooled")].set_index("encoder")
    if not {"pretrained", "random"} <= set(rows.index) or not rows["high"]["pretrained"] < rows["value"]["random"]:
        return ""
    return (
        f"WARNING: anatomies are retrieved across sequences less often ({rows['value']['pretrained']:.3f}) than with "
        f"the untrained encoder ({rows['value']['random']:.3f}). After base and seqaug, which pair no sequences, that "
        "may be; after seqinv the features have become alike: lower --learning_rate, or train longer."
    )


def format_table(table: pd.DataFrame, encoders: Sequence[str]) -> str:
    """Return the measures as text, one line each, the encoders side by side."""
    lines = [f"{'measure':38s}" + "".join(f"{name:>24s}" for name in encoders) + f"{'chance':>9s}  better"]
    for (level, metric), rows in table.groupby(["level", "metric"], sort=False):
        by_encoder = rows.set_index("encoder")
        cells = [by_encoder.loc[name] for name in encoders]
        shown = [f"{c['value']:.3f} [{c['low']:.3f}, {c['high']:.3f}]" for c in cells]
        lines.append(
            f"{f'{metric} ({level})':38s}"
            + "".join(f"{text:>24s}" for text in shown)
            + f"{cells[0]['chance']:9.3f}  {cells[0]['better']}"
        )
    return "\n".join(lines)
