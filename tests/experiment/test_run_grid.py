"""A real grid of tiny runs: run, killed, continued, changed, failed in part."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
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
from scripts.experiment.launch.execute import Job, commands, execute, is_finished
from scripts.experiment.launch.run_grid import Outcome, plan, run_grid
from scripts.experiment.results.collect import Results, collect
from scripts.handlers.mlflow_store import find_parent, open_store
from tests.commands.client import Commands
from tests.events import all_end, handles, offspring

ROOT = Path(__file__).resolve().parents[2]
TINY = Path(__file__).with_name("tiny.json")


def command(out: Path, *options: str) -> list[str]:
    run = [sys.executable, "-m", "scripts", "experiment", "run"]
    return [*run, "--preset", str(TINY), "--out", str(out), *options]


def run(out: Path, *options: str, code: int = 0) -> str:
    done = subprocess.run(command(out, *options), cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def jobs_in(out: Path, **choice: Any) -> list[Job]:
    return plan(load_preset(TINY), Choice(**choice), out)


def again(out: Path, **choice: Any) -> Outcome:
    """The same without a command line; as many side by side, as sums of other numbers of threads round differently."""
    return run_grid(jobs_in(out, **choice), load_preset(TINY), processes=2)


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
    """When each cell's weights were written and its MLflow run ended."""
    ended = {found.data.tags["cell"]: found.info.end_time for found in runs_in(out)}
    return {
        cell: ((out / "runs" / cell / "models" / "model.pt").stat().st_mtime_ns, end) for cell, end in ended.items()
    }


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("grid") / "tiny"
    told = run(out, "--jobs", "2")
    assert "Grid tiny in" in told
    assert "7 runs, 0 of them finished, 7 to do" in told
    assert "7 of 7 runs are finished" in told
    assert "the last one" in told
    return out


@pytest.fixture(scope="session")
def results(grid: Path) -> Results:
    return collect("tiny", f"sqlite:///{grid / 'mlruns.db'}")


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

    def test_typed_again_it_runs_nothing(self, grid: Path) -> None:
        before = state(grid)
        outcome = again(grid)
        assert (len(outcome.finished), outcome.failed, outcome.left) == (7, {}, [])
        assert state(grid) == before

    def test_lost_weights_are_made_again_and_a_new_cell_is_added(self, grid: Path) -> None:
        job = next(job for job in jobs_in(grid) if job.cell.variant == "random" and job.cell.task == "ixi_denoise")
        before = state(grid)
        model = job.place.folder(job.name) / "models" / "model.pt"
        kept = torch.load(model, weights_only=True)
        model.unlink()
        (model.parent / "checkpoint.pt").unlink()
        assert again(grid, study=True, tasks=["pretrain", "ixi_denoise"]).failed == {}
        after = state(grid)
        added = [cell for cell in after if cell not in before]
        assert [cell.rsplit("-", 1)[0] for cell in added] == ["pretrain-seqinv-no_l1-s0"]
        assert {cell for cell in before if after[cell] != before[cell]} == {job.name}
        made = torch.load(model, weights_only=True)
        assert all(torch.equal(value, made[key]) for key, value in kept.items())
        # the plan has what was there before, too
        known = collect("tiny", job.place.uri)
        assert len(known.planned) == 8
        typed = "python -m scripts experiment run --preset tiny"
        assert known.facts["commands"] == [typed, f"{typed} --task pretrain,ixi_denoise --study"]

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

    def test_dry_run_prints_commands_that_work_as_printed(self, grid: Path, tmp_path: Path, commands: Commands) -> None:
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
    def test_kill_9_and_again_equals_uninterrupted(self, grid: Path, tmp_path: Path) -> None:
        out = borrow_cohorts(grid, tmp_path / "killed")
        process = subprocess.Popen(
            command(out, "--jobs", "2"),
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or "pretrain base, seed 0: " not in lines[-1]:  # what waits for it begins
            lines.append(process.stdout.readline())
            assert lines[-1], "".join(lines)
        with handles(offspring(process.pid)) as below:
            process.kill()
            process.communicate()
            assert all_end(below)
        jobs = jobs_in(out)
        client = open_store(jobs[0].place.uri)
        finished = {job.name for job in jobs if is_finished(job, client)}
        assert 0 < len(finished) < len(jobs)
        before = state_of(out, finished)
        told = run(out, "--jobs", "2")
        assert f"{len(jobs)} runs, {len(finished)} of them finished, {len(jobs) - len(finished)} to do" in told
        assert state_of(out, finished) == before
        for job in jobs:
            ours, theirs = (folder / "runs" / job.name / "models" / "model.pt" for folder in (out, grid))
            assert _same_tensors(ours, theirs), job.name
        for found in runs_in(out):
            steps = [entry.step for entry in client.get_metric_history(found.info.run_id, "train_loss")]
            assert steps == sorted(set(steps)), "a step was logged twice"

    def test_stopped_by_the_clock_it_is_left_for_another_time(self, grid: Path, tmp_path: Path) -> None:
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
        self, grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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


def state_of(out: Path, cells: set[str]) -> dict[str, tuple[int, int]]:
    return {cell: found for cell, found in state_safe(out).items() if cell in cells}


def state_safe(out: Path) -> dict[str, tuple[int, int]]:
    ended = {found.data.tags["cell"]: found.info.end_time for found in runs_in(out)}
    models = {cell: out / "runs" / cell / "models" / "model.pt" for cell in ended}
    return {cell: (path.stat().st_mtime_ns, ended[cell]) for cell, path in models.items() if path.is_file()}


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
