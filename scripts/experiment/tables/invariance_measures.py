"""How invariant the encoders are to the sequence, in the few measures that the pages print."""

from __future__ import annotations

from scripts.experiment.results.collect import Results
from scripts.experiment.tables.text import EMPTY, markdown_table
from scripts.variants import VARIANTS, variant_label, variant_order

__all__ = ["invariance_markdown"]

_MEASURES = {
    "retrieval_top1": "retrieval of the anatomy in another sequence, top 1 (higher is better)",
    "sequence_probe": "sequence told by a linear probe (lower is better)",
    "tissue_probe_across_sequences": "tissue told in a sequence that the probe has not seen (higher is better)",
}


def invariance_markdown(results: Results) -> str:
    """Return a sentence and a table of the pooled features, a column per variant of the paper; empty without any."""
    if results.invariance.empty:
        return ""
    table = results.invariance[results.invariance["level"] == "pooled"]
    table = table[table["variant"].isin(VARIANTS) & table["metric"].isin(_MEASURES)]
    variants = variant_order(table["variant"].unique())
    means = table.groupby(["metric", "variant"])[["value", "low", "high"]].mean()
    rows = [
        [
            label,
            *(
                "{:.3f} [{:.3f}, {:.3f}]".format(*means.loc[(metric, name)]) if (metric, name) in means.index else EMPTY
                for name in variants
            ),
        ]
        for metric, label in _MEASURES.items()
    ]
    reading = (
        "Of one pooled vector per anatomy, on held-out subjects: value and 95 % bootstrap interval; the mean of the "
        "seeds where there are several, of value and limits alike."
    )
    return f"{reading}\n\n{markdown_table(['measure', *map(variant_label, variants)], rows)}"
