from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scripts.errors import InputError
from scripts.metrics.summary import COLUMNS, format_summary, summarise, tell_empty

CLASSES = ("white matter", "CSF")
METRICS = ("DSC", "HD95", "empty_prediction", "empty_truth", "volume_truth")
SUBJECTS = {"Guys": 5, "IOP": 3, "HH": 1}


@pytest.fixture
def table() -> pd.DataFrame:
    """Two classes; five subjects at one site, three at another, one at a third; sites not in order of the alphabet."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for site, count in SUBJECTS.items():
        for number in range(count):
            shared = rng.normal()
            for name in CLASSES:
                for metric in METRICS:
                    value = float(rng.random() < 0.4) if metric.startswith("empty") else shared + 0.1 * rng.normal()
                    given = (f"{site}-{number}", site, "T1w", name, metric, value)
                    rows.append(dict(zip(COLUMNS, given, strict=True)))
    return pd.DataFrame(rows)


def pick(frame: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    for key, value in wanted.items():
        frame = frame[frame[key] == value]
    return frame


def test_means_and_intervals_are_those_of_scipy(table: pd.DataFrame) -> None:
    summary = summarise(table)
    for site in ("Guys", "IOP"):
        for name in CLASSES:
            for metric in METRICS:
                row = pick(summary, site=site, **{"class": name}, metric=metric).iloc[0]
                values = pick(table, site=site, **{"class": name}, metric=metric)["value"].to_numpy()
                error = stats.sem(values)
                assert row["n"] == len(values) == SUBJECTS[site]
                assert row["mean"] == pytest.approx(values.mean())
                assert row["standard_error"] == pytest.approx(error)
                if error > 0:
                    low, high = stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=error)
                    assert (row["low"], row["high"]) == pytest.approx((low, high))


def test_all_is_the_mean_within_each_subject_first(table: pd.DataFrame) -> None:
    summary = summarise(table)
    for metric in ("DSC", "HD95"):
        row = pick(summary, site="Guys", **{"class": "all"}, metric=metric).iloc[0]
        per_subject = []
        for number in range(5):
            mine = pick(table, subject=f"Guys-{number}", metric=metric)["value"].to_list()
            per_subject.append(sum(mine) / 2)
        assert row["n"] == 5
        assert row["mean"] == pytest.approx(np.mean(per_subject))
        assert row["standard_error"] == pytest.approx(stats.sem(per_subject))
        # classes of a subject go together here, so ten values taken as independent would claim too much
        pooled = pick(table, site="Guys", metric=metric)["value"]
        assert row["standard_error"] > 1.2 * stats.sem(pooled)
    assert set(summary[summary["class"] == "all"]["metric"]) == {"DSC", "HD95"}


def test_one_subject_has_a_mean_and_nothing_else(table: pd.DataFrame) -> None:
    rows = pick(summarise(table), site="HH")
    assert (rows["n"] == 1).all()
    assert rows["mean"].notna().all()
    assert rows[["standard_error", "low", "high"]].isna().all(axis=None)


def test_empty_masks_are_counted(table: pd.DataFrame) -> None:
    summary = summarise(table)
    for metric in ("empty_prediction", "empty_truth"):
        for row in pick(summary, metric=metric).itertuples():
            ones = int((pick(table, site=row.site, **{"class": row[3]}, metric=metric)["value"] == 1).sum())
            assert row.total == ones
            assert row.mean == pytest.approx(ones / row.n)
    assert pick(summary, metric="empty_truth")["total"].sum() > 0
    assert summary[~summary["metric"].str.startswith("empty")]["total"].isna().all()


def test_rows_keep_the_order_of_the_table(table: pd.DataFrame) -> None:
    summary = summarise(table)
    assert list(summary["site"].unique()) == list(SUBJECTS)
    expected = [(name, metric) for name in CLASSES for metric in METRICS] + [("all", "DSC"), ("all", "HD95")]
    for site in SUBJECTS:
        rows = pick(summary, site=site)
        assert list(zip(rows["class"], rows["metric"], strict=True)) == expected
    assert list(summary.columns[:4]) == ["site", "modality", "class", "metric"]


def test_one_class_needs_no_class_all(table: pd.DataFrame) -> None:
    assert set(summarise(pick(table, **{"class": "CSF"}))["class"]) == {"CSF"}


def test_modalities_are_kept_apart(table: pd.DataFrame) -> None:
    other = table.assign(modality="T2w", value=np.where(table["metric"] == "DSC", 0.25, table["value"]))
    summary = summarise(pd.concat([table, other]))
    assert (pick(summary, modality="T2w", metric="DSC")["mean"] == 0.25).all()
    pd.testing.assert_frame_equal(pick(summary, modality="T1w").reset_index(drop=True), summarise(table))


def test_a_site_without_name_is_not_lost(table: pd.DataFrame) -> None:
    nameless = table.assign(site=table["site"].where(table["site"] != "IOP", None))
    summary = summarise(nameless)
    assert summary["site"].isna().sum() == len(CLASSES) * len(METRICS) + 2
    assert summary[summary["site"].isna()]["n"].eq(3).all()


def test_a_csv_says_the_same(table: pd.DataFrame, tmp_path: Any) -> None:
    table.to_csv(tmp_path / "metrics.csv", index=False)
    pd.testing.assert_frame_equal(summarise(pd.read_csv(tmp_path / "metrics.csv")), summarise(table))


def test_text_has_a_line_for_each_row(table: pd.DataFrame) -> None:
    summary = summarise(table)
    lines = format_summary(summary).splitlines()
    assert len(lines) == 1 + len(summary)
    first = summary.iloc[0]
    assert lines[1].split() == [
        *("Guys", "T1w", "white", "matter", "DSC", "5"),
        *(f"{first['mean']:.3f}", f"{first['standard_error']:.3f}", f"[{first['low']:.3f},", f"{first['high']:.3f}]"),
    ]
    count = summary.index[summary["metric"] == "empty_prediction"][0]
    assert lines[1 + count].endswith(f"{summary['total'][count]:.0f} of 5 subjects")
    assert "nan" not in "\n".join(lines)
    starts = {line.index(word) for line, word in zip(lines, ["metric", *summary["metric"]], strict=True)}
    assert len(starts) == 1


def test_empty_masks_are_told_in_words(table: pd.DataFrame) -> None:
    counts = [int(table[table["metric"] == f"empty_{what}"]["value"].sum()) for what in ("prediction", "truth")]
    expected = f"{counts[0]} of 18 predictions are empty and {counts[1]} of 18 truths are empty, scored all the same."
    assert tell_empty(table) == expected
    assert tell_empty(pick(table, metric="DSC")) == ""


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda t: t.drop(columns="site"), "needs rows and the columns subject, site, .*: evaluate a subject"),
        (lambda t: t.iloc[:0], "got 0 rows"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "DSC of white matter of subject Guys-0 is there twice"),
        (lambda t: t.assign(value=t["value"].mask(t.index == 6, np.inf)), "HD95 of CSF of subject Guys-0 is not fin"),
        (lambda t: t.drop(index=10), "subject Guys-1 has no DSC of some class"),
    ],
    ids=["column", "rows", "twice", "infinite", "class"],
)
def test_bad_tables_are_told_in_a_line(table: pd.DataFrame, spoil: Any, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        summarise(spoil(table))
    assert "\n" not in str(caught.value)
