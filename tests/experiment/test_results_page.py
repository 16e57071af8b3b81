from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from scripts.errors import InputError
from scripts.experiment.figures.all_figures import Figure
from scripts.experiment.pages.advice import advice
from scripts.experiment.pages.limits import limits
from scripts.experiment.pages.results_page import typical_minutes, write_results_page
from scripts.experiment.pages.tallies import agreement_with_paper, tallies
from scripts.experiment.results.across import across_scores
from scripts.experiment.results.collect import Results
from scripts.experiment.tables.all_tables import all_tables
from scripts.experiment.tables.study import study_differences, study_table
from scripts.experiment.tables.text import Table
from scripts.variants import VARIANTS

PLACES = ["site", "modality", "fraction"]


def cells(gains: list[float], others: str = "base") -> pd.DataFrame:
    rows = {"table": "table1", "metric": "DSC", "first": "seqinv", "second": others, "gain": gains}
    return pd.DataFrame(rows)


def parts(told: list[tuple[str, float, float]]) -> pd.DataFrame:
    rows = {"table": "table1", "metric": "DSC", "first": "seqinv", "second": "base"}
    return pd.DataFrame([{**rows, "part": part, "gain": gain, "p_holm": p} for part, gain, p in told])


def named(tables: list[Table], name: str) -> pd.DataFrame:
    (frame,) = (table.frame for table in tables if table.name == name)
    return frame


class TestTallies:
    def test_counts_cells_and_names_what_is_clear(self) -> None:
        told = [("1% labels", 2.0, 0.01), ("100% labels", -1.0, 0.04), ("in domain", 0.5, 0.2)]
        (tally,) = tallies(cells([1.0, -2.0, 3.0, 0.0]), parts(told))
        assert (tally.cells, tally.ahead, tally.median, tally.parts) == (4, 2, 0.5, 3)
        assert (tally.better, tally.worse) == (("1% labels",), ("100% labels",))

    def test_each_pair_of_each_table_has_its_own(self, tables: list[Table]) -> None:
        found = tallies(named(tables, "comparisons"), named(tables, "comparisons_overall"))
        assert {(t.table, t.metric, t.second) for t in found} == {
            (*table, second)
            for table in (("table1", "DSC"), ("table2", "DSC"), ("table2", "HD95"), ("table3", "PSNR"))
            for second in ("base", "seqaug", "random")
        }
        psnr = next(t for t in found if t.metric == "PSNR" and t.second == "base")
        # the cohort is made so that SeqInv gains 1 dB everywhere
        assert psnr.ahead == psnr.cells == 18
        assert psnr.median == pytest.approx(1.0, abs=0.1)
        assert len(psnr.better) == psnr.parts
        assert psnr.worse == ()


class TestAgreement:
    def frame(self, ours: list[float], paper: list[float], metric: str = "DSC", table: str = "table1") -> pd.DataFrame:
        rows = []
        for place, (mine, theirs) in enumerate(zip(ours, paper, strict=True)):
            where = {"table": table, "metric": metric, "site": "Guys", "modality": f"m{place}", "fraction": 1.0}
            rows += [
                {**where, "variant": "base", "mean": 50.0, "paper_mean": 70.0},
                {**where, "variant": "seqinv", "mean": 50.0 + mine, "paper_mean": 70.0 + theirs},
            ]
        return pd.DataFrame(rows)

    def test_signs_and_ranks(self) -> None:
        (row,) = agreement_with_paper(
            self.frame([1, 2, 3, -1], [10, 20, 30, 5]), "seqinv", ["base", "seqaug"]
        ).itertuples()
        assert (row.second, row.cells, row.same_sign, row.paper_ahead, row.ours_ahead) == ("base", 4, 3, 4, 3)
        assert row.spearman == pytest.approx(1.0)

    def test_less_is_better_in_hd95(self) -> None:
        (row,) = agreement_with_paper(
            self.frame([-5, 5, -1, -2], [-3, -3, 4, -2], "HD95", "table2"), "seqinv", ["base"]
        ).itertuples()
        assert (row.ours_ahead, row.paper_ahead, row.same_sign) == (3, 3, 2)

    def test_few_cells_have_no_rank_correlation(self) -> None:
        (row,) = agreement_with_paper(self.frame([1, 2, 3], [1, 2, 3]), "seqinv", ["base"]).itertuples()
        assert np.isnan(row.spearman)

    def test_cells_that_the_paper_lacks_do_not_count(self) -> None:
        (row,) = agreement_with_paper(
            self.frame([1, 2, 3, 4, 5], [1, 2, 3, 4, np.nan]), "seqinv", ["base"]
        ).itertuples()
        assert row.cells == 4


class TestTypicalMinutes:
    def test_a_run_that_paused_overnight_changes_nothing(self) -> None:
        zero = pd.Timestamp("2026-11-01", tz="UTC")
        lengths = {"pretrain": [10, 12, 700], "ixi_seg": [3, 4]}
        rows = [
            {"task": task, "started": zero, "ended": zero + pd.Timedelta(minutes=minutes)}
            for task, all_minutes in lengths.items()
            for minutes in all_minutes
        ]
        found = typical_minutes(pd.DataFrame(rows))
        assert found.to_dict() == {"pretrain": 12.0, "ixi_seg": 3.5}


class TestLimits:
    def test_simulated_small_and_one_seed_are_told(self, results: Results) -> None:
        heads = [head for head, _ in limits(results)]
        assert heads[0] == "Simulated heads stand in for patients"
        assert heads[-2:] == ["A small network", "One seed"]

    def test_real_data_full_size_and_several_seeds_need_none(self, results: Results) -> None:
        runs = pd.concat([results.runs, results.runs.assign(seed=1)])
        assert limits(replace(results, runs=runs.assign(cohort="real", patch_size=96))) == []


class TestPage:
    @pytest.fixture
    def page(self, results: Results, tables: list[Table], tmp_path: Path) -> Path:
        picture = tmp_path / "gallery.png"
        Image.new("RGB", (8, 8)).save(picture)
        figure = Figure(name="gallery", title="Gallery", caption="What is simulated.", path=picture)
        return write_results_page(results, tables, [figure], tmp_path / "docs" / "RESULTS.md")

    def test_tells_date_commit_hardware_and_duration(self, page: Path, results: Results) -> None:
        text = page.read_text(encoding="utf-8")
        assert "2026-11-01; commit 0123456789; x86_64, 2 cores, no GPU, 2 runs side by side" in text
        assert f"{len(results.runs)} of {len(results.planned)} runs" in text
        told = re.search(r"2 at a time: (\d+\.\d) h(?:, and (\d+\.\d) h for the study)?\. Other", text)
        spans = (results.runs["ended"] - results.runs["started"]).dt.total_seconds() / 3600
        studied = ~results.runs["variant"].isin(VARIANTS)
        # all runs of a task of these made-up results take the same time
        assert told is not None
        assert float(told[1]) == pytest.approx(spans[~studied].sum() / 2, abs=0.051)
        assert float(told[2] or 0) == pytest.approx(spans[studied].sum() / 2, abs=0.051)

    def test_commands_of_the_grid_are_named_and_a_study_only_where_there_is_one(
        self, results: Results, tables: list[Table], tmp_path: Path
    ) -> None:
        typed = ["python -m scripts experiment run --preset mini", "python -m scripts experiment run --seeds 1"]
        own = replace(results, runs=results.runs[results.runs["variant"].isin(VARIANTS)], facts={"commands": typed})
        text = write_results_page(own, tables, [], tmp_path / "RESULTS.md").read_text()
        assert f"To run it again: `{typed[0]}` and `{typed[1]}`." in text
        assert "for the study" not in text

    def test_a_part_per_grid_of_which_only_its_own_is_written_anew(
        self, page: Path, results: Results, tables: list[Table]
    ) -> None:
        first = page.read_text(encoding="utf-8")
        other = replace(results, grid="gpu")
        write_results_page(other, tables, [], page)
        both = page.read_text(encoding="utf-8")
        assert both.startswith(first)
        assert re.findall(r"^## (.*)$", both, re.M) == [
            f"Grid `{name}`, on **embedded** cohorts" for name in ("mini", "gpu")
        ]
        assert re.findall(r"^# (.*)$", both, re.M) == ["Results"]
        changed = replace(results, facts={**results.facts, "hardware": "another machine"})
        write_results_page(changed, tables, [], page)
        after = page.read_text(encoding="utf-8")
        assert "another machine" in after
        assert after.endswith(both.removeprefix(first))
        assert after.index("another machine") < after.index("Grid `gpu`")

    def test_a_grid_of_pretrainings_alone_tells_its_invariance(self, results: Results, tmp_path: Path) -> None:
        none = pd.DataFrame()
        runs = results.runs[results.runs["task"] == "pretrain"]
        own = replace(results, runs=runs, scores=none, cases=none, features=none)
        text = write_results_page(own, all_tables(own), [], tmp_path / "RESULTS.md").read_text(encoding="utf-8")
        assert "- Seeds: 0.\n" in text
        assert "#### Invariance to the sequence" in text
        assert "Table 1" not in text

    def test_another_page_is_not_written_over(self, results: Results, tmp_path: Path) -> None:
        path = tmp_path / "NOTES.md"
        path.write_text("# Notes\n", encoding="utf-8")
        with pytest.raises(InputError, match=r"NOTES\.md is a page of something else: give --page"):
            write_results_page(results, [], [], path)
        assert path.read_text(encoding="utf-8") == "# Notes\n"

    def test_begins_with_the_recipe_to_take(self, page: Path, results: Results) -> None:
        text = page.read_text(encoding="utf-8")
        part = text[text.index("### Which recipe for which case") : text.index("### What this can show")]
        lines = [line for line in part.splitlines() if line.startswith("- ")]
        assert [line.split(":")[0] for line in lines] == [
            "- **Brain tissue (IXI), 5 % of the labels, T1w, tested on the same**",
            "- **Brain tissue (IXI), 5 % of the labels, T1w, tested on the other contrasts**",
        ]
        (own,) = across_scores(results)
        row = own.differences("scratch").set_index(["variant", "tested"]).loc[("maps-tuned", "others")]
        told = (
            f"{row['difference']:+.1f} DSC points (95 % interval over subjects {row['low']:+.1f} to {row['high']:+.1f})"
        )
        assert told in lines[1]
        assert lines[1].split("**: ")[1].startswith("Maps, tuned was best")

    def test_nothing_is_advised_where_nothing_was_trained_from_scratch(self, results: Results) -> None:
        left = results.across[results.across["variant"] != "scratch"]
        assert advice(replace(results, across=left)) == []

    def test_scratch_itself_may_be_the_best(self, results: Results) -> None:
        left = results.across[results.across["variant"] != "maps-tuned"]
        assert (
            "none beat it"
            in dict(advice(replace(results, across=left)))[
                "Brain tissue (IXI), 5 % of the labels, T1w, tested on the other contrasts"
            ]
        )

    def test_the_best_are_counted(self, page: Path, tables: list[Table]) -> None:
        (line,) = re.findall(r"^- \*\*Best of all in so many cells\*\*: (.*)$", page.read_text(encoding="utf-8"), re.M)
        assert len(line.split("; ")) == 4
        frames = {table.name: table.frame for table in tables}
        dsc = frames["table1"].set_index(["site", "modality", "fraction"])
        best = dsc.groupby(level=[0, 1, 2])["mean"].transform("max") == dsc["mean"]
        counts = best.groupby(dsc["variant"].to_numpy()).sum()
        assert f"Table 1: tissue segmentation, DSC: Base {counts['base']}, SeqAug {counts['seqaug']}, " in line

    def test_says_where_seqinv_wins_and_how_the_paper_compares(self, page: Path) -> None:
        text = page.read_text(encoding="utf-8")
        assert "**Table 3: denoising, PSNR**, SeqInv against Base: ahead in 18 of 18 cells, median gain +" in text
        assert "clearly better in 4 of 4 parts" in text
        agreement = text.split("#### Beside the paper")[1].split("##")[0]
        assert len(re.findall(r"^\| Table \d: ", agreement, re.M)) == 8

    def test_the_study_is_answered_in_the_words_of_its_table(
        self, results: Results, tables: list[Table], tmp_path: Path
    ) -> None:
        first = results.invariance
        noise = np.random.default_rng(0).normal(0, 0.02, len(first))
        again = replace(results, invariance=pd.concat([first, first.assign(seed=1, value=first["value"] + noise)]))
        tables = [table for table in tables if table.name not in ("study", "study_differences")]
        tables += [study_table(again), study_differences(again)]  # the others do not tell of invariance
        text = write_results_page(again, tables, [], tmp_path / "RESULTS.md").read_text(encoding="utf-8")
        part = text.split("### What of SeqInv helps")[1].split("\n#")[0]
        (table,) = [table for table in tables if table.name == "study_differences"]
        lines = re.findall(r"^- \*\*(.+?)\*\*: (.*)\.$", part, re.M)
        assert [question for question, _ in lines] == [row.label for row in table.rows]
        for row in table.frame.to_dict("records"):
            word = "better" if row["low"] > 0 else "worse" if row["high"] < 0 else "not clear"
            (told,) = [clause for clause in dict(lines)[row["question"]].split("; ") if row["measure"] in clause]
            assert told.startswith("not clear in" if word == "not clear" else f"clearly {word} in")
        assert {"clearly", "not"} <= {answer.split()[0] for _, line in lines for answer in line.split("; ")}

    def test_invariance_is_told_with_intervals(self, page: Path, results: Results) -> None:
        (row,) = re.findall(r"^\| retrieval of the anatomy .*$", page.read_text(encoding="utf-8"), re.M)
        own = results.invariance.query("level == 'pooled' and metric == 'retrieval_top1' and variant == 'seqinv'")
        value, low, high = own[["value", "low", "high"]].iloc[0]
        assert f"{value:.3f} [{low:.3f}, {high:.3f}]" in row
        assert row.count("[") == 4  # the variants of the study have a picture of their own

    def test_pictures_lie_beside_it_and_every_link_leads_somewhere(self, page: Path) -> None:
        links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
        assert links == ["images/mini_gallery.png"]
        assert all((page.parent / link).is_file() for link in links)

    def test_long_table_of_tests_is_left_to_the_report(self, page: Path) -> None:
        text = page.read_text(encoding="utf-8")
        assert "over all modalities" in text
        assert "cell by cell" not in text
