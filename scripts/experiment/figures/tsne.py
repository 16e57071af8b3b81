"""Encoder features of the test images in two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.experiment.figures.drawing import Drawing
from scripts.experiment.figures.palette import MODALITY_COLOURS, SITE_COLOURS, colours_of
from scripts.experiment.results.collect import FEATURES, Results
from scripts.experiment.results.scores import NothingFoundError
from scripts.experiment.results.wording import cohort_words, in_order
from scripts.tasks import TASKS
from scripts.variants import VARIANTS, variant_label, variant_order

__all__ = ["draw_embeddings", "embed", "feature_tsne"]

_WIDTH = 8.5
_FEWEST = 10
_PERPLEXITY = 30.0
_MARKERS = "osD^vPX"


def feature_tsne(results: Results) -> Drawing:
    """Return t-SNE maps of the encoders' pooled features, coloured by modality and by site.

    Raises:
        NothingFoundError: no variant has the features of ten images.
    """
    tables = _by_variant(results.features)
    if not tables:
        raise NothingFoundError(f"no encoder has the features of {_FEWEST} images")
    maps = {name: embed(_vectors(table)) for name, table in tables.items()}
    counts = sorted({len(table) for table in tables.values()})
    images = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    subjects = max(table["subject"].nunique() for table in tables.values())
    caption = (
        f"t-SNE of the pooled bottleneck features of {images} test images ({subjects} subjects) per encoder, each"
        f" feature standardised; {cohort_words(next(iter(tables.values())))}. Every map is made by itself: what lies"
        " where, distances between groups and their sizes mean nothing, nor can maps be compared by eye in any finer"
        " way than whether colours mix. Mixed modalities suggest that the sequence matters less to the encoder, they do"
        " not show that the features are useful: untrained or collapsed ones may mix as well."
    )
    return Drawing("Encoder features by modality and site", caption, draw_embeddings(tables, maps))


def embed(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the t-SNE map (N, 2) of feature vectors (N, C), N at least 4; the same for the same vectors.

    Features are standardised first. The perplexity is 30, less for fewer than 91 vectors: (N - 1) / 3.

    References:
        van der Maaten and Hinton, 2008, https://jmlr.org/papers/v9/vandermaaten08a.html
    """
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    model = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=0)
    return np.asarray(model.fit_transform(StandardScaler().fit_transform(vectors)), dtype=np.float64)


def draw_embeddings(tables: dict[str, pd.DataFrame], maps: dict[str, NDArray[np.float64]]) -> Any:
    """Return a figure: a column per variant, a row coloured by modality and one by site.

    Args:
        tables: variant -> rows with ``modality`` and ``site``.
        maps: variant -> (N, 2) places of these rows.
    """
    from matplotlib.figure import Figure

    side = _WIDTH / max(len(tables), 3)
    figure = Figure(figsize=(_WIDTH, 2 * (side + 0.6)), layout="constrained")
    rows = (("modality", MODALITY_COLOURS), ("site", SITE_COLOURS))
    blocks = figure.subfigures(2, 1, squeeze=False)[:, 0]
    for block, (what, known) in zip(blocks, rows, strict=True):
        groups = in_order((name for table in tables.values() for name in table[what]), known)
        colours = colours_of(groups, known)
        handles: dict[str, Any] = {}
        for axis, (variant, table) in zip(
            block.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True
        ):
            for place, name in enumerate(groups):
                here = maps[variant][(table[what] == name).to_numpy()]
                marker = _MARKERS[place % len(_MARKERS)]
                (handles[name],) = axis.plot(
                    here[:, 0], here[:, 1], marker, color=colours[name], markersize=4, alpha=0.75, markeredgewidth=0
                )
            axis.set_box_aspect(1)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title(f"{variant_label(variant)}, by {what}", fontsize=9)
        block.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=len(groups), frameon=False, fontsize=9
        )
    return figure


def _by_variant(features: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return each variant's images, once each: of one task, the first seed and the largest label fraction."""
    tables: dict[str, pd.DataFrame] = {}
    if features.empty:
        return tables
    task = next((name for name in TASKS if name in set(features["task"])), None)
    features = features[features["task"] == task]
    for variant in variant_order(set(features["variant"]) & set(VARIANTS)):
        own = features[features["variant"] == variant]
        own = own[own["seed"] == own["seed"].min()].sort_values("fraction", ascending=False, kind="stable")
        own = own.drop_duplicates(["modality", "subject"]).dropna(axis="columns", how="all")
        if len(own) >= _FEWEST:
            tables[variant] = own.sort_values(["modality", "site", "subject"], ignore_index=True)
    return tables


def _vectors(table: pd.DataFrame) -> NDArray[np.float64]:
    names = [name for name in table if name.startswith(FEATURES) and name.removeprefix(FEATURES).isdigit()]
    return table[names].to_numpy(dtype=np.float64)
