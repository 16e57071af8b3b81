from __future__ import annotations

import io
import itertools
import logging
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scripts.experiment.results.collect import KEYS, Results
from scripts.experiment.tables.all_tables import all_tables, write_tables
from scripts.experiment.tables.comparisons import comparison_table
from scripts.experiment.tables.paper_tables import task_tables
from scripts.experiment.tables.study import study_differences, study_table
from scripts.experiment.tables.text import Cell, Row, Table, render_csv, render_html, render_latex, render_markdown

TISSUES = ("grey matter", "white matter", "CSF")


def scores(
    task: str,
    variant: str,
    values: Sequence[float],
    *,
    metric: str = "DSC",
    modality: str = "T1w",
    fraction: float = 1.0,
    seed: int = 0,
    site: str = "Guys",
    cohort: str = "embedded",
    label: str = "lesion",
) -> pd.DataFrame:
    own = dict(zip(KEYS, (task, variant, modality, fraction, seed, cohort), strict=True))
    rows = [
        {**own, "subject": f"s{n}-{site}", "site": site, "class": label, "metric": metric, "value": value}
        for n, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def grid(*parts: pd.DataFrame, invariance: pd.DataFrame | None = None) -> Results:
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    runs = table[list(KEYS)].drop_duplicates(ignore_index=True) if parts else pd.DataFrame()
    none = pd.DataFrame()
    return Results("g", "sqlite:///x.db", runs, table, none if invariance is None else invariance, none, none, none)


def named(tables: Sequence[Table], name: str) -> Table:
    (table,) = (table for table in tables if table.name == name)
    return table


def shown(table: Table) -> dict[tuple[str, str, str, str], Any]:
    """Cells by section, row, group and column, as a reader finds them."""
    over = [name for name, count in table.groups for _ in range(count)] or [""] * (len(table.columns) - 1)
    section, found = "", {}
    for row in table.rows:
        if not row.cells:
            section = row.label
            continue
        assert len(row.cells) == len(table.columns) - 1
        for group, column, cell in zip(over, table.columns[1:], row.cells, strict=True):
            found[section, row.label, group, column] = cell
    return found


def test_a_cell_is_mean_and_standard_error_of_the_subjects_own_means(results: Results, tables: list[Table]) -> None:
    cells = shown(named(tables, "table1"))
    own = results.scores.query("task == 'ixi_seg' and metric == 'DSC' and variant == 'seqaug'")
    for (modality, fraction, site), part in own.groupby(["modality", "fraction", "site"]):
        subjects = [100 * np.mean(rows["value"]) for _, rows in part.groupby("subject")]
        place = f"{'GST' if site == 'Guys' else site} [{modality}]"
        section = "In domain" if site == "Guys" else "Out of domain"
        cell = cells[section, place, f"{100 * fraction:g}% labels", "SeqAug"]
        assert cell.text == f"{np.mean(subjects):.1f} ± {stats.sem(subjects):.1f}"
    assert own.groupby(["modality", "fraction", "site"]).ngroups == 18


def test_rows_and_columns_are_in_the_papers_order(tables: list[Table]) -> None:
    table = named(tables, "table1")
    places = [f"{site} [{modality}]" for site in ("GST", "HH", "IOP") for modality in ("T1w", "T2w", "PDw")]
    ours = ["In domain", *places[:3], "Out of domain", *places[3:]]
    labels = [row.label for row in table.rows]
    assert labels[: len(ours)] == ours
    assert labels[len(ours)].startswith("The paper's own numbers")
    assert labels[len(ours) + 1 :] == places
    assert table.groups == (("1% labels", 4), ("100% labels", 4))
    assert table.columns == ("", *("Base", "SeqAug", "SeqInv", "Random") * 2)
    table = named(tables, "table2")
    assert table.groups == (("DSC (%)", 4), ("HD95 (mm)", 4))
    assert [row.label for row in table.rows[:3]] == ["ARC [T1w]", "ARC [T2w]", "ARC [FLAIR]"]


def test_best_and_second_follow_the_unrounded_means_in_the_metrics_own_direction(tables: list[Table]) -> None:
    for table in (named(tables, name) for name in ("table1", "table2", "table3", "table3_gain")):
        for keys, part in table.frame.groupby(["site", "modality", "fraction", "metric"]):
            ordered = part.sort_values("mean", ascending=keys[-1] == "HD95")["variant"].tolist()
            assert part.loc[part["best"], "variant"].tolist() == ordered[:1]
            assert part.loc[part["second"], "variant"].tolist() == ordered[1:2]


def test_what_prints_alike_is_still_ranked_and_ties_share() -> None:
    table = named(
        task_tables(
            grid(
                scores("arc_lesion", "base", [0.5002, 0.5004], site="ARC"),
                scores("arc_lesion", "seqaug", [0.5001, 0.5001], site="ARC"),
                scores("arc_lesion", "seqinv", [0.5004, 0.5002], site="ARC"),
                scores("arc_lesion", "random", [0.3, 0.3], site="ARC"),
            )
        ),
        "table2",
    )
    cells = table.rows[0].cells
    assert [cell.text for cell in cells] == ["50.0 ± 0.0"] * 3 + ["30.0 ± 0.0"]
    assert [cell.rank for cell in cells] == [1, 2, 1, 0]


def test_a_variant_alone_is_not_called_the_best() -> None:
    (table,) = task_tables(grid(scores("ixi_seg", "base", [0.5, 0.6])))
    assert [cell.rank for row in table.rows for cell in row.cells] == [0, 0]  # ours and the paper's


def test_the_papers_numbers_stand_in_a_block_of_their_own(tables: list[Table]) -> None:
    cells = shown(named(tables, "table1"))
    (heading,) = {section for section, *_ in cells if "paper" in section}
    assert heading == "The paper's own numbers: real subjects, full-size network"
    found = [cells[heading, "HH [T2w]", "100% labels", name] for name in ("Base", "SeqAug", "SeqInv", "Random")]
    assert [cell.text for cell in found] == ["87.2 ± 0.3", "89.7 ± 0.2", "88.1 ± 0.3", "–"]  # noqa: RUF001
    assert [cell.rank for cell in found] == [0, 1, 2, 0]
    cells = shown(named(tables, "table2"))
    found = [cells[heading, "ARC [FLAIR]", "HD95 (mm)", name] for name in ("Base", "SeqAug", "SeqInv")]
    assert [(cell.text, cell.rank) for cell in found] == [("67.9 ± 4.8", 2), ("68.1 ± 4.3", 0), ("63.2 ± 3.3", 1)]


def test_the_paper_has_no_numbers_for_other_sites_fractions_or_gains(tables: list[Table]) -> None:
    gain = named(tables, "table3_gain")
    other = grid(scores("ixi_seg", "base", [0.5, 0.6], fraction=0.5), scores("ixi_seg", "base", [0.5], site="X"))
    for table in (gain, *task_tables(other)):
        if table.name == "table3_gain":
            assert table.frame["paper_mean"].isna().all()
            assert not [row for row in table.rows if "paper" in row.label]
    frame = task_tables(other)[0].frame
    assert frame.loc[(frame["fraction"] == 0.5) | (frame["site"] == "X"), "paper_mean"].isna().all()


def test_missing_cells_are_dashes_and_one_subject_has_no_error() -> None:
    (table,) = task_tables(
        grid(
            scores("ixi_denoise", "base", [17.0, 18.0], metric="PSNR"),
            scores("ixi_denoise", "seqinv", [19.0], metric="PSNR", modality="T2w"),
        )
    )
    assert [[cell.text for cell in row.cells] for row in table.rows[:2]] == [["17.5 ± 0.5", "–"], ["–", "19.0"]]  # noqa: RUF001


def test_label_fractions_become_rows_where_metrics_are_columns() -> None:
    parts = [scores("arc_lesion", "base", [f, f], fraction=f, site="ARC") for f in (0.01, 1.0)]
    (table,) = task_tables(grid(*parts))
    labels = [row.label for row in table.rows]
    assert labels[:2] == ["ARC [T1w] 1% labels", "ARC [T1w] 100% labels"]
    assert [row.cells[0].text for row in table.rows[:2]] == ["1.0 ± 0.0", "100.0 ± 0.0"]


def test_captions_name_cohort_subjects_seeds_and_marks(results: Results, tables: list[Table]) -> None:
    caption = named(tables, "table1").caption
    for words in (
        "GST 10, HH 8, IOP 8",
        "one seed",
        "Simulated cohort, not comparable with the real subjects of the paper",
        "CSF, grey matter, white matter",
        "Best bold, second best underlined",
    ):
        assert words in caption
    own = results.scores[results.scores["task"] == "ixi_seg"]
    real = replace(results, scores=own.assign(cohort="real"))
    table = named(task_tables(real), "table1")
    assert "Real data." in table.caption
    assert "comparable" not in table.caption
    assert set(table.frame["cohort"]) == {"real"}


def test_captions_count_subjects_by_modality_where_they_differ_and_missing_classes() -> None:
    parts = [scores("arc_lesion", "base", [0.5] * n, site="ARC", modality=m) for m, n in (("T1w", 4), ("FLAIR", 2))]
    empty = [scores("arc_lesion", "base", [1, 0, 0, 1], site="ARC", metric="empty_prediction")]
    (table,) = task_tables(grid(*parts, *empty))
    assert "ARC [T1w] 4, ARC [FLAIR] 2" in table.caption
    assert "Base 2 of 4" in table.caption
    (table,) = task_tables(grid(*parts))
    assert "missing from a prediction" not in table.caption


def test_captions_name_unfinished_runs(results: Results) -> None:
    lost = results.runs["task"].eq("ixi_seg") & results.runs["variant"].eq("base")
    partial = replace(
        results,
        runs=results.runs[~lost],
        scores=results.scores.query("task == 'ixi_seg' and variant != 'base'"),
    )
    assert "6 of 24 runs are not finished" in named(task_tables(partial), "table1").caption


def test_seeds_are_averaged_within_subjects_and_their_spread_is_told() -> None:
    parts = [scores("ixi_seg", "base", [0.5 + s / 10, 0.7 + s / 10], seed=s) for s in (0, 1, 2)]
    (table,) = task_tables(grid(*parts, scores("ixi_seg", "seqinv", [0.6, 0.8])))
    assert "1 to 3 seeds, averaged within a subject" in table.caption
    row = table.frame.set_index("variant").loc["base"]
    assert (row["mean"], row["n"], row["n_seeds"]) == pytest.approx((70.0, 2, 3))
    assert row["spread"] == pytest.approx(10.0)  # seeds' means: 60, 70, 80
    assert np.isnan(table.frame.set_index("variant").loc["seqinv", "spread"])


def test_tests_are_corrected_within_each_table(tables: list[Table]) -> None:
    for table in (named(tables, "comparisons"), named(tables, "comparisons_overall")):
        assert table.frame.groupby("table", sort=False).ngroups == 3
        for _, family in table.frame.groupby("table"):
            smallest = family["p"].idxmin()
            assert family.loc[smallest, "p_holm"] == pytest.approx(min(1, len(family) * family.loc[smallest, "p"]))
            # the largest p is multiplied by one, unless one before it came out larger
            ordered = family.sort_values("p")
            steps = [min(1, (len(family) - k) * p) for k, p in enumerate(ordered["p"])]
            assert ordered["p_holm"].tolist() == pytest.approx([max(steps[: k + 1]) for k in range(len(steps))])
    sizes = named(tables, "comparisons").frame.groupby("table").size()
    # 9 rows of 2 fractions, or 3 rows of 2 metrics, against three others
    assert sizes.to_dict() == {"table1": 54, "table2": 18, "table3": 54}


def test_a_comparison_is_of_the_same_subjects(results: Results, tables: list[Table]) -> None:
    frame = named(tables, "comparisons").frame
    own = results.scores.query("task == 'arc_lesion' and metric == 'HD95' and modality == 'T2w'")
    by_variant = own.pivot(index="subject", columns="variant", values="value")
    apart = by_variant["seqinv"] - by_variant["base"]
    (row,) = frame.query("table == 'table2' and metric == 'HD95' and modality == 'T2w' and second == 'base'").to_dict(
        "records"
    )
    assert row["difference"] == pytest.approx(apart.mean())
    assert row["gain"] == pytest.approx(-apart.mean())
    assert row["p"] == pytest.approx(stats.wilcoxon(apart).pvalue)
    assert (row["n"], row["cohort"]) == (12, "embedded")


def test_overall_tests_are_by_label_fraction_and_by_domain(results: Results, tables: list[Table]) -> None:
    frame = named(tables, "comparisons_overall").frame
    parts = frame[frame["table"] == "table3"].groupby("part", sort=False)[["n", "cells"]].max()
    assert parts["n"].to_dict() == {
        "1% labels, all sites": 26,
        "100% labels, all sites": 26,
        "in domain, all label fractions": 10,
        "out of domain, all label fractions": 16,
    }
    assert parts["cells"].tolist() == [9, 9, 6, 12]
    assert set(frame.loc[frame["table"] == "table2", "part"]) == {"100% labels"}
    own = results.scores.query("task == 'ixi_denoise' and metric == 'PSNR' and site == 'Guys'")
    means = own.groupby(["subject", "variant"])["value"].mean().unstack()
    (row,) = frame.query("table == 'table3' and part.str.startswith('in') and second == 'random'").to_dict("records")
    assert row["difference"] == pytest.approx((means["seqinv"] - means["random"]).mean())


def test_a_clear_winner_is_named_and_too_few_subjects_are_owned_up_to() -> None:
    rng = np.random.default_rng(0)
    base, better = rng.normal(30, 3, 12), rng.normal(0, 0.1, 12)
    table = comparison_table(
        grid(
            scores("arc_lesion", "base", list(base), metric="HD95", site="ARC"),
            scores("arc_lesion", "seqinv", list(base - 5 + better), metric="HD95", site="ARC"),
            scores("ixi_seg", "base", [0.1, 0.2, 0.3, 0.4]),
            scores("ixi_seg", "seqinv", [0.2, 0.4, 0.6, 0.8]),
        )
    )
    cells = shown(table)
    few = {column: cell for (section, _, _, column), cell in cells.items() if section.startswith("Table 1")}
    assert few["p"].text == "0.125 (n too small)"
    assert (few["clearly better"].text, few["difference"].rank) == ("–", 0)  # noqa: RUF001
    clear = {column: cell for (section, _, _, column), cell in cells.items() if section.startswith("Table 2")}
    assert clear["p (Holm)"].text == "<0.001"
    assert (clear["clearly better"].text, clear["difference"].rank) == ("SeqInv", 1)
    assert clear["difference"].text.startswith("-")


def invariance(variants: Sequence[str]) -> pd.DataFrame:
    rows = []
    for place, variant in enumerate(variants):
        own = dict(zip(KEYS, ("pretrain", variant, "qmri", 1.0, 0, "embedded"), strict=True))
        row = {"level": "pooled", "metric": "retrieval_top1", "value": 0.2 + 0.1 * place, "low": 0.1, "high": 0.9}
        rows.append({**own, **row, "n": 98, "chance": 0.01, "better": "higher"})
    return pd.DataFrame(rows)


def test_the_study_shows_shared_scores_and_answers_by_paired_differences() -> None:
    variants = ("seqinv", "random", "seqinv-no_l1")
    values = {"seqinv": [0.6, 0.7, 0.8], "random": [0.4, 0.5, 0.3], "seqinv-no_l1": [0.5, 0.7, 0.6]}
    parts = [scores("ixi_seg", name, values[name], fraction=0.01) for name in variants]
    parts.append(scores("ixi_seg", "seqinv", [0.9], fraction=1.0))  # which the study's variant was not tested on
    results = grid(*parts, invariance=invariance(variants))
    table = study_table(results)
    assert table.columns == ("variant", "retrieval across sequences (pooled)", "DSC T1w 1% (%)")
    assert [row.label for row in table.rows] == ["SeqInv", "Random", "SeqInv, no L1"]
    assert [row.cells[0].text for row in table.rows] == [f"{v} [0.100, 0.900]" for v in ("0.200", "0.300", "0.400")]
    assert [row.cells[1].text.split()[0] for row in table.rows] == ["70.0", "40.0", "60.0"]
    assert "pooled 0.010" in table.caption
    answers = study_differences(results)
    found = {row.label: row.cells[0] for row in answers.rows}
    assert found["the L1 branch (SeqInv less SeqInv without it)"].text.startswith("+10.00 [")
    assert found["the L1 branch (SeqInv less SeqInv without it)"].rank == 0  # one of three subjects did not differ
    assert found["all of it (SeqInv less the untrained encoder)"].rank == 1
    assert not [label for label in found if "SeqAug" in label]
    assert len(found) == 2  # and not the branch once more from the other side


def test_a_repeated_study_has_intervals_over_its_trainings() -> None:
    variants = ("seqinv", "seqinv-no_l1")
    seeds = {"seqinv": ([0.60, 0.70], [0.64, 0.74], [0.59, 0.69]), "seqinv-no_l1": ([0.5, 0.6], [0.5, 0.7], [0.5, 0.6])}
    parts = [
        scores("ixi_seg", name, own, fraction=0.01, seed=n) for name in variants for n, own in enumerate(seeds[name])
    ]
    measured = [invariance(variants).assign(seed=n, value=lambda t, n=n: t["value"] + 0.01 * n) for n in range(3)]
    results = grid(*parts, invariance=pd.concat(measured, ignore_index=True))
    table, answers = study_table(results), study_differences(results)
    assert "t interval over the seeds" in table.caption
    assert "3 seeds" in table.caption
    # retrieval 0.20, 0.21, 0.22, the other's alike: 0.21 -+ 2.776 * 0.01 / sqrt(3)
    # DSC 65, 69, 64 (variance 7) and 55, 60, 55 (8.333): 66 -+ 2.776 * 2.769 / sqrt(3)
    assert [cell.text for cell in table.rows[0].cells] == ["0.210 [0.194, 0.226]", "66.0 [61.6, 70.4]"]
    # by seed 10, 9, 9 less: 9.33 -+ 4.303 * 0.577 / sqrt(3)
    assert answers.columns[1:] == table.columns[1:]
    found = {row.label: row.cells for row in answers.rows}["the L1 branch (SeqInv less SeqInv without it)"]
    # the retrieval of both rises alike from seed to seed, so that their difference does not vary
    assert [(cell.text, cell.rank) for cell in found] == [("-0.100 [-0.100, -0.100]", 1), ("+9.33 [+7.90, +10.77]", 1)]
    assert set(answers.frame["n"]) == {3}


def test_the_study_with_one_subject_has_no_interval() -> None:
    parts = [scores("ixi_seg", name, [0.6]) for name in ("seqinv", "seqinv-vicreg")]
    results = grid(*parts, invariance=invariance(("seqinv", "seqinv-vicreg")))
    assert study_table(results).rows[0].cells[-1].text == "60.0"
    assert study_differences(results).rows[0].cells[0].text == "+0.00"


def test_nothing_found_gives_no_tables_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert all_tables(grid()) == []
    with caplog.at_level(logging.WARNING):
        assert write_tables(all_tables(grid()), tmp_path) == []
    assert [record.getMessage().split()[0] for record in caplog.records] == [
        *("across", "across_differences"),
        *("table1", "table2", "table3", "table3_gain", "comparisons_overall", "comparisons"),
        *("study", "study_differences"),
    ]
    for render in (render_markdown, render_html, render_latex):
        assert "No finished run gives this table." in render(study_table(grid()))


def test_a_grid_without_seqinv_has_no_comparisons() -> None:
    found = all_tables(grid(scores("ixi_seg", "base", [0.5, 0.6]), scores("ixi_seg", "seqaug", [0.5, 0.7])))
    assert [table.name for table in found] == ["table1"]


def test_files(tables: list[Table], tmp_path: Path) -> None:
    paths = write_tables(tables, tmp_path / "tables")
    names = [
        "across",
        "across_differences",
        "table1",
        "table2",
        "table3",
        "table3_gain",
        "comparisons_overall",
        "comparisons",
        "study",
    ]
    expected = {f"{name}{ending}" for name, ending in itertools.product(names, (".md", ".tex", ".csv"))}
    assert {path.name for path in paths} == expected - {"comparisons.tex"}  # longer than a page
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {path.name for path in paths}
    page = (tmp_path / "tables" / "table1.md").read_text(encoding="utf-8")
    assert page.startswith("# Table 1: tissue segmentation\n\n| ")
    assert page.rstrip().endswith(named(tables, "table1").caption)
    back = pd.read_csv(tmp_path / "tables" / "table1.csv")
    columns = ["site", "modality", "fraction", "metric", "variant", "mean", "standard_error", "low", "high", "n"]
    assert list(back)[: len(columns)] == columns
    assert {"n_seeds", "best", "second", "paper_mean", "paper_se", "cohort"} < set(back)
    pd.testing.assert_frame_equal(back, named(tables, "table1").frame, check_dtype=False)


class Rows(HTMLParser):
    """Columns that each row spans, tags in use, and cells by class."""

    def __init__(self) -> None:
        super().__init__()
        self.widths: list[int] = []
        self.open: list[str] = []
        self.attributes: set[str] = set()
        self.marked: list[tuple[str, str]] = []
        self.mark = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        found = dict(attrs)
        self.attributes |= set(found)
        if tag == "tr":
            self.widths.append(0)
        if tag in ("td", "th"):
            self.widths[-1] += int(found.get("colspan") or 1)
        if tag in ("strong", "u"):
            self.mark = str(found["class"])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.mark = ""

    def handle_data(self, data: str) -> None:
        if self.mark:
            self.marked.append((self.mark, data))


def test_html_is_whole_and_marks_by_class(tables: list[Table]) -> None:
    for table in tables:
        page = Rows()
        page.feed(render_html(table))
        assert page.open == []
        assert set(page.widths) == {len(table.columns)}
        assert page.attributes <= {"class", "colspan", "scope", "title"}
        ranked = [cell for row in table.rows for cell in row.cells if cell.rank]
        assert page.marked == [(("best", "second")[cell.rank - 1], cell.text) for cell in ranked]
    text = render_html(named(tables, "table1"))
    assert re.findall(r'<tbody class="([\w-]+)">', text) == ["in-domain", "out-of-domain", "paper"]
    assert re.search(r'title="95 % interval [\d.]+ to [\d.]+"', text)


def test_markdown_rows_are_equally_wide_and_marked(tables: list[Table]) -> None:
    for table in tables:
        lines = render_markdown(table).splitlines()
        assert {line.count("|") for line in lines} == {len(table.columns) + 1}
    first = re.sub(" +", " ", render_markdown(named(tables, "table1")).splitlines()[3])
    assert re.fullmatch(r"\| GST \[T1w\] (\| (\*\*|<u>)?[\d.]+ ± [\d.]+(\*\*|</u>)? )+\|", first)
    assert (first.count("**"), first.count("<u>")) == (4, 2)


def test_latex_rows_are_equally_wide_and_braces_match(tables: list[Table]) -> None:
    for table in tables:
        text = render_latex(table)
        body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
        for line in (line for line in body.splitlines() if line.endswith(r"\\")):
            spans = [int(count) - 1 for count in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) == len(table.columns)
        depth = list(itertools.accumulate({"{": 1, "}": -1}.get(c, 0) for c in re.sub(r"\\[{}]", "", text)))
        assert min(depth) == 0
        assert depth[-1] == 0
        assert not re.search(r"(?<!\\)[%#_^](?!\n)", body)
        assert text.isascii()
        assert [text.count(rf"\{end}{{table}}") for end in ("begin", "end")] == [1, 1]
        assert not re.search(r"\\caption\{Table \d", text)  # the class puts that


def latex_lacks() -> str:
    """What of LaTeX this machine lacks, empty where it has all."""
    if not shutil.which("pdflatex"):
        return "no pdflatex on this machine"
    files = [f"{name}.sty" for name in ("booktabs", "graphicx", "geometry")]
    found = subprocess.run(["kpsewhich", *files], capture_output=True, text=True, check=False).stdout
    lacking = [name for name in files if name not in found]
    return f"LaTeX lacks {', '.join(lacking)}" if lacking else ""


@pytest.mark.skipif(bool(latex_lacks()), reason=latex_lacks())
def test_latex_is_set_without_a_warning(tables: list[Table], tmp_path: Path) -> None:
    head = r"\documentclass{article} \usepackage{booktabs,graphicx} \usepackage[margin=1cm]{geometry}"
    paths = write_tables(tables, tmp_path / "tables")
    texts = [path.read_text("ascii") for path in paths if path.suffix == ".tex"]
    body = "\\clearpage\n".join([*texts, render_latex(odd_table())])
    (tmp_path / "all.tex").write_text(f"{head}\n\\begin{{document}}\n{body}\\end{{document}}\n", "ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    for _ in range(2):  # the second finds the labels of the first
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").is_file()
    assert not re.findall(r"^(?:Overfull|.*Warning).*", done.stdout, re.MULTILINE)


def odd_table() -> Table:
    """A table of nothing but characters that mean something to Markdown, LaTeX or HTML."""
    odd = "a_b & 5 % < 2^3 | #1 $x$ {y} ~ \\"
    return Table("odd", odd, odd, pd.DataFrame({"x": [odd]}), ("", odd), (), (Row(odd, (Cell(odd, 1, '"n"'),)),))


def test_special_characters_are_escaped() -> None:
    table = odd_table()
    odd = table.title
    html = render_html(table)
    assert "a_b &amp; 5 % &lt; 2^3" in html
    assert 'title="&#34;n&#34;"' in html
    latex = r"a\_b \& 5 \% $<$ 2\textasciicircum{}3 \textbar{} \#1 \$x\$ \{y\} \textasciitilde{} \textbackslash{}"
    assert rf"{latex} & \textbf{{{latex}}} \\" in render_latex(table)
    assert {line.replace(r"\|", "").count("|") for line in render_markdown(table).splitlines()} == {3}
    assert pd.read_csv(io.StringIO(render_csv(table)))["x"].tolist() == [odd]
