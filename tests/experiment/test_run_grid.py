"""A real grid of tiny runs: run, killed, continued, changed, failed in part."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from scripts.errors import InputError
from scripts.experiment.grid.cells import Choice
from scripts.experiment.grid.presets import load_preset
from scripts.experiment.launch.begin import record_plan
from scripts.experiment.launch.execute import commands, execute, is_finished
from scripts.experiment.launch.run_grid import plan, run_grid
from scripts.experiment.launch.steps import Job
from scripts.experiment.results.collect import Results, collect
from scripts.handlers.mlflow_store import find_parent, open_store
from tests.commands.client import Commands
from tests.events import all_end, handles, offspring

ROOT = Path(__file__).resolve().parents[2]
TINY = Path(__file__).with_name("tiny.json")
COHORTS = {  # of that preset, in its folder "data": those which other tests use, too
    "qmri": "qmri-subjects10-spacing4",
    "ixi": "ixi-guys5-hh1-iop1-spacing4",
    "arc": "arc-subjects7-spacing4",
}
Shared = Callable[[str, Callable[[Path], Any]], Any]


def command(out: Path, *options: str) -> list[str]:
    run = [sys.executable, "-m", "scripts", "experiment", "run"]
    return [*run, "--preset", str(TINY), "--out", str(out), *options]


@pytest.fixture(scope="session")
def run(commands: Commands) -> Callable[..., str]:
    """Type the command and return what it said."""

    def run(out: Path, *options: str) -> str:
        done = commands.run(command(out, *options), cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def jobs_in(out: Path, **choice: Any) -> list[Job]:
    return plan(load_preset(TINY), Choice(**choice), out)


def borrow_cohorts(grid: Path, out: Path) -> Path:
    """Cohorts and their caches of the grid that was run first."""
    for name in ("data", "work"):
        shutil.copytree(grid / name, out / name)
    return out


def runs_in(out: Path) -> list[Any]:
    client = open_store(f"sqlite:///{out / 'mlruns.db'}")
    parent = client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.grid_parent = 'tiny'")[0]
    children = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    found: list[Any] = list(client.search_runs([parent.info.experiment_id], children))
    return found


def state(out: Path) -> dict[str, tuple[int, int]]:
    """When each cell's weights, if there are any, were written and its MLflow run ended."""
    ended = {found.data.tags["cell"]: found.info.end_time for found in runs_in(out)}
    models = {cell: out / "runs" / cell / "models" / "model.pt" for cell in ended}
    return {cell: (path.stat().st_mtime_ns, ended[cell]) for cell, path in models.items() if path.is_file()}


@pytest.fixture(scope="session")
def grid(shared: Shared, small_cohorts: dict[str, Path], run: Callable[..., str]) -> Path:
    """The grid, run once for all workers; nothing may change it."""

    def make(out: Path) -> Path:
        for layout, name in COHORTS.items():
            shutil.copytree(small_cohorts[layout], out / "data" / name)
        told = run(out, "--jobs", "2")
        assert "Grid tiny in" in told
        assert "7 runs, 0 of them finished, 7 to do" in told
        assert "7 of 7 runs are finished" in told
        assert "the last one" in told
        return out

    made: Path = shared("grid", make)
    return made


@pytest.fixture(scope="session")
def results(grid: Path) -> Results:
    return collect("tiny", f"sqlite:///{grid / 'mlruns.db'}")


@pytest.fixture(scope="session")
def continued(grid: Path, shared: Shared, commands: Commands, run: Callable[..., str]) -> dict[str, Any]:
    """A part of the grid in another folder: killed, robbed of an encoder, typed again with one more cell, and again."""

    def make(out: Path) -> dict[str, Any]:
        options = ("--jobs", "2", "--task", "pretrain,ixi_denoise")
        kill_when_encoder_is_there(commands, command(borrow_cohorts(grid, out), *options))
        jobs = jobs_in(out, tasks=["pretrain", "ixi_denoise"])
        client = open_store(jobs[0].place.uri)
        finished = [job.name for job in jobs if is_finished(job, client)]
        assert jobs[0].name in finished
        assert len(finished) < len(jobs)
        killed = state(out)
        models = jobs[0].place.folder(jobs[0].name) / "models"
        (models / "model.pt").unlink()
        (models / "checkpoint.pt").unlink()
        made = {"out": out, "jobs": jobs, "finished": finished, "killed": killed}
        made.update(first=run(out, *options, "--study"), first_state=state(out))
        made.update(second=run(out, *options), second_state=state(out))
        return made

    made: dict[str, Any] = shared("continued_grid", make)
    return made


def kill_when_encoder_is_there(commands: Commands, words: list[str]) -> None:
    """Run a command until it tells that the pretraining is over; then what waits for that has hardly begun."""
    code = "import runpy, sys; sys.stdout.reconfigure(line_buffering=True); runpy._run_module_as_main('scripts')"
    read, write = os.pipe()
    process = commands.start([words[0], "-c", code, *words[3:]], cwd=ROOT, stdout=write, stderr=write)
    os.close(write)
    with open(read) as said:  # noqa: PTH123 - a pipe
        lines: list[str] = []
        try:
            while not lines or "pretrain base, seed 0: retrieval" not in lines[-1]:
                lines.append(said.readline())
                assert lines[-1], "".join(lines)
        finally:
            with handles(offspring(process.pid)) as below:
                process.kill()
                process.wait()
                assert all_end(below)


class TestRun:
    def test_every_cell_has_weights_scores_and_one_nested_run(self, grid: Path) -> None:
        jobs = jobs_in(grid)
        client = open_store(jobs[0].place.uri)
        assert all(is_finished(job, client) for job in jobs)
        assert sorted(found.data.tags["cell"] for found in runs_in(grid)) == sorted(job.name for job in jobs)
        for job in jobs:
            table = "invariance.csv" if job.cell.task == "pretrain" else "metrics.csv"
            assert (job.place.folder(job.name) / "eval" / table).is_file()
            assert "monai.bundle run" in job.log.read_text()

    def test_a_command_for_the_whole_grid_stands_for_those_of_its_parts(self, tmp_path: Path) -> None:
        preset, typed = load_preset("mini"), "python -m scripts experiment run --preset mini"
        uri = f"sqlite:///{tmp_path / 'mlruns.db'}"
        client, told = open_store(uri), {}
        for task in ("ixi_denoise", "arc_lesion", None):
            jobs = plan(preset, Choice(tasks=[task] if task else None), tmp_path, uri=uri)
            record_plan(jobs, preset, client, 2)
            parent = find_parent(client, "mini")
            assert parent is not None
            told[task] = mlflow.artifacts.load_dict(f"{parent.info.artifact_uri}/grid.json")["facts"]["commands"]
        assert told["arc_lesion"] == [f"{typed} --task ixi_denoise", f"{typed} --task arc_lesion"]
        assert told[None] == [typed]

    def test_dry_run_prints_commands_that_work_as_printed(
        self, grid: Path, tmp_path: Path, commands: Commands, run: Callable[..., str]
    ) -> None:
        printed = run(tmp_path / "dry", "--dry_run", "--task", "ixi_denoise", "--variant", "random")
        train, evaluate = printed.strip().splitlines()[-2:]
        assert not (tmp_path / "dry").exists()
        data = jobs_in(grid)[0].place.data["ixi"]
        missing = shlex.split(train)[shlex.split(train).index("--dataset_dir") + 1]
        for line in (train, evaluate):
            words = shlex.split(line.replace(missing, data))
            assert words[:2] == ["python", "-m"]
            done = commands.run([sys.executable, *words[1:]], cwd=ROOT)
            assert done.returncode == 0, done.stderr
        (job,) = jobs_in(tmp_path / "dry", tasks=["ixi_denoise"], variants=["random"])
        # the plain commands count as the cell
        assert is_finished(job, open_store(job.place.uri))


class TestKilled:
    def test_what_was_finished_stays_and_the_rest_equals_uninterrupted(
        self, grid: Path, continued: dict[str, Any]
    ) -> None:
        jobs, finished = continued["jobs"], continued["finished"]
        assert f"{len(jobs) + 1} runs, {len(finished) - 1} of them finished" in continued["first"]
        for cell in finished[1:]:
            assert continued["first_state"][cell] == continued["killed"][cell]
        for job in jobs:
            ours, theirs = (folder / "runs" / job.name / "models" / "model.pt" for folder in (continued["out"], grid))
            assert _same_tensors(ours, theirs), job.name
        client = open_store(jobs[0].place.uri)
        for found in runs_in(continued["out"]):
            steps = [entry.step for entry in client.get_metric_history(found.info.run_id, "train_loss")]
            assert steps == sorted(set(steps)), "a step was logged twice"

    def test_lost_weights_are_made_again_and_a_new_cell_is_added(self, continued: dict[str, Any]) -> None:
        jobs, after = continued["jobs"], continued["first_state"]
        assert after[jobs[0].name] != continued["killed"][jobs[0].name]
        added = set(after) - {job.name for job in jobs}
        assert [cell.rsplit("-", 1)[0] for cell in added] == ["pretrain-seqinv-no_l1-s0"]
        # the plan has what was there before, too
        known = collect("tiny", jobs[0].place.uri)
        assert set(known.planned["cell"]) == set(after)
        typed = "python -m scripts experiment run --preset tiny --task pretrain,ixi_denoise"
        assert known.facts["commands"] == [f"{typed} --study", typed]

    def test_typed_again_it_runs_nothing(self, continued: dict[str, Any]) -> None:
        assert "3 runs, 3 of them finished, 0 to do" in continued["second"]
        assert "3 of 3 runs are finished" in continued["second"]
        assert continued["second_state"] == continued["first_state"]

    def test_stopped_by_the_clock_it_is_left_for_another_time(
        self, grid: Path, tmp_path: Path, forked_processes: None
    ) -> None:
        jobs = jobs_in(borrow_cohorts(grid, tmp_path / "short"), tasks=["pretrain"])
        outcome = run_grid(jobs, load_preset(TINY), minutes=0.02)
        assert (outcome.finished, outcome.failed, outcome.left) == ([], {}, [jobs[0].name])
        assert not _alive(tmp_path / "short")


class TestPlan:
    def test_a_grid_may_have_a_name_of_its_own(self, tmp_path: Path) -> None:
        choice = Choice(seeds=[0, 1])
        named = plan(load_preset(TINY), choice, tmp_path, grid="repeated")
        assert {job.place.grid for job in named} == {"repeated"}
        assert named[0].place.command.endswith("--preset tiny --grid repeated --seeds 0,1")
        assert all("--experiment grid-repeated" in line for job in named for line in commands(job))
        # its runs are those of the preset
        assert [job.name for job in named] == [job.name for job in plan(load_preset(TINY), choice, tmp_path)]


class TestFailures:
    def test_one_failed_run_is_told_and_the_others_go_on(
        self, grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], forked_processes: None
    ) -> None:
        preset = load_preset(TINY)
        broken = replace(preset.tasks["ixi_seg"], settings={**preset.tasks["ixi_seg"].settings, "normalisation": "odd"})
        preset = replace(preset, tasks={**preset.tasks, "ixi_seg": broken})
        jobs = plan(
            preset, Choice(variants=["random"], tasks=["ixi_seg", "ixi_denoise"]), borrow_cohorts(grid, tmp_path)
        )
        outcome = run_grid(jobs, preset)
        assert outcome.finished == [jobs[1].name]
        reason = "normalisation='odd' is unknown: choose foreground, volume or box"
        assert outcome.failed == {jobs[0].name: reason}
        with pytest.raises(SystemExit, match="3"):
            outcome.tell(jobs)
        told = capsys.readouterr().out
        assert "1 of 2 runs are finished" in told
        assert f"failed: {jobs[0].name}: {reason}" in told
        assert "Traceback" not in told
        assert "Traceback" in jobs[0].log.read_text()

    def test_a_run_that_another_process_is_at_is_left_alone(self, tmp_path: Path) -> None:
        (job,) = jobs_in(tmp_path, tasks=["pretrain"])
        folder = job.place.folder(job.name)
        folder.mkdir(parents=True)
        with (folder / "lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            with pytest.raises(InputError, match="another process is running it"):
                execute(job)

    def test_real_data_are_asked_for_before_any_work(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="for real data: give --arc DIR, --ixi DIR, --qmri DIR"):
            plan(load_preset("paper"), Choice(), tmp_path)
        with pytest.raises(InputError, match=r"--ixi .*nowhere is no folder"):
            plan(load_preset("mini"), Choice(), tmp_path, data={"ixi": str(tmp_path / "nowhere")})
        assert list(tmp_path.iterdir()) == []


class TestCollect:
    def test_scores_are_those_of_the_evaluations(self, grid: Path, results: Results) -> None:
        for job in jobs_in(grid):
            if job.cell.task == "pretrain":
                continue
            own = pd.read_csv(job.place.folder(job.name) / "eval" / "metrics.csv")
            key = job.cell.keys()
            rows = results.scores
            for name, value in key.items():
                rows = rows[rows[name] == value]
            assert len(rows) == len(own)
            np.testing.assert_allclose(rows["value"], own["value"])

    def test_runs_features_cases_and_the_random_encoder_are_there(self, results: Results) -> None:
        assert set(results.runs["task"]) == {"pretrain", "ixi_seg", "ixi_denoise", "arc_lesion"}
        assert {"base", "random"} <= set(results.runs["variant"])
        assert {"base", "random"} <= set(results.invariance["variant"])
        assert (results.runs["minutes"] > 0).all()
        assert results.features.filter(regex=r"^f\d+$").shape[1] == 16
        assert set(results.features["modality"]) == {"T1w"}
        assert (results.cases.groupby(["task", "variant", "modality", "fraction"]).size() == 3).all()
        assert all(Path(path).is_file() for path in results.cases["prediction"])
        assert set(results.scores["cohort"]) == {"embedded"}

    def test_an_unknown_grid_is_told(self, grid: Path) -> None:
        with pytest.raises(InputError, match="holds no grid 'mini': start it with"):
            collect("mini", f"sqlite:///{grid / 'mlruns.db'}")


def _alive(out: Path) -> Sequence[str]:
    """Return the processes whose output goes to a log of the grid."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/1"):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith(str(out)):
            found.append(target)
    return found


def _same_tensors(first: Path, second: Path) -> bool:
    ours, theirs = (torch.load(path, weights_only=True) for path in (first, second))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
