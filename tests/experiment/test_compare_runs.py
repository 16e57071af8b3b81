"""The comparison in MLflow: the right runs, on pages that the real server answers with them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

from scripts.errors import InputError
from scripts.experiment.pages.compare_runs import comparison_url, find_runs, picture_comparison, serve, table_url
from scripts.experiment.pages.mlflow_server import mlflow_server
from scripts.handlers.mlflow_run import MLflowRun
from scripts.handlers.mlflow_store import CELL_TAG, find_parent, open_store

ROOT = Path(__file__).resolve().parents[2]
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


def add_run(folder: Path, name: str, *, grid: str = "mini", evaluated: bool = True, dsc: float = 0.5) -> str:
    """Add a run as the bundles do, named task-variant-modality-fraction."""
    task, variant, modality, fraction = name.split("-")
    tags = {"task": task, "variant": variant, "modality": modality, "fraction": fraction, "seed": 0}
    cell = {CELL_TAG: f"{grid}/{name}"}
    store = f"sqlite:///{folder / 'mlruns.db'}"
    run = MLflowRun(store, f"grid-{grid}", name, {**tags, **cell}, {}, folder / "run.json", resume=False)
    run.log({"test/all/DSC": dsc}, step=0)
    if evaluated:
        run.tag(evaluated="yes")
        run.close()
    return str(run.run_id)


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Runs of two tasks in another order than that of tables; one run twice, one unfinished, one of another
    grid, and one of a cell that the grid no longer has."""
    folder = tmp_path_factory.mktemp("store")
    added = {}
    for name in (
        "ixi_seg-seqinv-T1w-1.0",
        "ixi_seg-random-T1w-0.01",
        "ixi_seg-base-T1w-1.0",
        "ixi_seg-seqinv-T1w-1.0",
        "ixi_seg-base-T1w-0.01",
        "arc_lesion-base-FLAIR-1.0",
        "pretrain-seqinv-qmri-1.0",
    ):
        added[name] = add_run(folder, name)
    add_run(folder, "ixi_seg-seqaug-T1w-1.0", evaluated=False)
    add_run(folder, "ixi_seg-scratch-T1w-1.0")
    add_run(folder, "ixi_seg-base-T2w-1.0", grid="other")
    add_run(folder, "ixi_seg-base-T2w-1.0", grid="begun", evaluated=False)
    uri = f"sqlite:///{folder / 'mlruns.db'}"
    client = open_store(uri)
    for grid in ("mini", "other", "begun"):
        cells = [{"cell": name} for name in (*added, "ixi_seg-seqaug-T1w-1.0", "ixi_seg-base-T2w-1.0")]
        client.log_dict(find_parent(client, grid).info.run_id, {"cells": cells}, "grid.json")
    return {**added, "folder": str(folder), "uri": uri}


def test_the_runs_come_in_the_order_of_tables(ids: dict[str, str]) -> None:
    found = find_runs(ids["uri"], "mini")
    seg = ("base-T1w-0.01", "random-T1w-0.01", "base-T1w-1.0", "seqinv-T1w-1.0")
    assert found.of_task == {
        "pretrain": [ids["pretrain-seqinv-qmri-1.0"]],
        "arc_lesion": [ids["arc_lesion-base-FLAIR-1.0"]],
        "ixi_seg": [ids[f"ixi_seg-{name}"] for name in seg],  # of what was run twice the last
    }
    assert list(found.of_task) == ["pretrain", "arc_lesion", "ixi_seg"]
    assert len(found.all()) == 6


def test_a_grid_that_is_not_there_is_refused(ids: dict[str, str]) -> None:
    with pytest.raises(InputError, match="holds no grid 'paper': start it with"):
        find_runs(ids["uri"], "paper")
    with pytest.raises(InputError, match="no run of the grid 'begun' is finished"):
        find_runs(ids["uri"], "begun")


def test_runs_are_chosen_by_their_tags(ids: dict[str, str]) -> None:
    found = find_runs(ids["uri"], "mini", {"task": "ixi_seg", "modality": "T1w"})
    assert found.of_task == {"ixi_seg": find_runs(ids["uri"], "mini").of_task["ixi_seg"]}
    with pytest.raises(InputError, match="no run of the grid 'mini', task ixi_seg, modality FLAIR, is finished"):
        find_runs(ids["uri"], "mini", {"task": "ixi_seg", "modality": "FLAIR"})


def test_the_address_says_the_runs() -> None:
    address = urlsplit(comparison_url("http://127.0.0.1:5000", "7", ["ab", "cd"]))
    assert (address.netloc, address.path, address.query) == ("127.0.0.1:5000", "/", "")
    page, _, query = address.fragment.partition("?")
    assert page == "/compare-runs"
    assert {name: json.loads(text[0]) for name, text in parse_qs(query).items()} == {
        "runs": ["ab", "cd"],
        "experiments": ["7"],
    }
    page, _, query = urlsplit(
        table_url("http://h", "7", "ab", tags={"task": "ixi_seg"}, charts=True)
    ).fragment.partition("?")
    words = parse_qs(query)
    assert page == "/experiments/7/runs"
    assert words["searchFilter"] == ["tags.mlflow.parentRunId = 'ab' AND tags.task = 'ixi_seg'"]
    assert words["compareRunsMode"] == ["CHART"]


def test_a_taken_port_is_told(ids: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(InputError, match=f"port {port} is taken: give another"),
            mlflow_server(ids["uri"], port=port),
        ):
            pass


@pytest.fixture(scope="module")
def server(ids: dict[str, str]) -> Iterator[str]:
    with mlflow_server(ids["uri"]) as (address, process):
        assert process is not None
        yield address
    with pytest.raises(OSError, match="refused"):
        urlopen(f"{address}/health", timeout=5)


@pytest.mark.slow
def test_a_server_is_not_served_again(ids: dict[str, str], server: str) -> None:
    told: list[str] = []
    serve(f"{server}/", "mini", tell=told.append)
    text = "\n".join(told)
    assert f"{server}/#/compare-runs" in text
    assert "Starting" not in text
    body = json.dumps({"experiment_ids": [find_runs(server, "mini").experiment], "filter": filter_of(text)})
    request = Request(
        f"{server}/api/2.0/mlflow/runs/search", body.encode(), headers={"Content-Type": "application/json"}
    )
    with urlopen(request, timeout=20) as answer:
        found = json.load(answer)["runs"]
    assert len(found) == 9  # the table shows all, the unfinished and the forgotten too
    assert set(find_runs(ids["uri"], "mini").all()) < {run["info"]["run_id"] for run in found}


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium to take the picture")
def test_a_picture_shows_the_charts_of_the_runs_that_were_asked_for(server: str, tmp_path: Path) -> None:
    path = picture_comparison(server, "mini", tmp_path / "charts.png", tags={"task": "ixi_seg"})
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert picture.shape == (1000, 1300, 3)
    charts = picture[300:, 520:]
    assert ((charts.max(-1) - charts.min(-1)) > 60).mean() > 0.005  # MLflow's own page is grey there; bars are coloured


def filter_of(text: str) -> str:
    """Return the filter of the table's address."""
    address = next(word for word in reversed(text.split()) if "searchFilter" in word)
    return parse_qs(urlsplit(address).fragment.partition("?")[2])["searchFilter"][0]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium to open the page")
def test_the_command_shows_the_runs_until_ctrl_c(ids: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts", "experiment", "compare", "--out", ids["folder"], "--grid", "mini"]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if line.startswith("Ctrl-C"):
            break
    addresses = [line for line in lines if line.startswith("http")]
    try:
        compared = opened(addresses[0], tmp_path)
        listed = opened(addresses[-1], tmp_path)
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "MLflow is stopped." in rest
    assert "Comparing 6 Runs from 1 Experiment" in compared
    for name in (name for name in ids if name not in ("folder", "uri")):
        assert f"{name}-20" in compared  # runs are named after what they are, and when they began
        assert f"{name}-20" in listed
    assert "test/all/DSC" in compared
    server = addresses[0].partition("/#")[0]
    with pytest.raises(OSError, match="refused"):
        urlopen(f"{server}/health", timeout=5)


def opened(address: str, tmp_path: Path) -> str:
    """Return the text of a page once its scripts have filled it."""
    assert BROWSER is not None
    done = subprocess.run(
        [
            *(BROWSER, "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"),
            *("--window-size=1600,2400", "--virtual-time-budget=30000", "--disable-background-networking"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", address),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return re.sub(r"<[^>]*>", "", done.stdout)
