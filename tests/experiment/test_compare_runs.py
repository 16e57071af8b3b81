"""The comparison in MLflow: the right runs, on pages that the real server answers with them."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
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
from tests.commands.client import Commands
from tests.experiment.browser import Browser

ROOT = Path(__file__).resolve().parents[2]


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


def runs_in(folder: Path) -> dict[str, str]:
    """Runs of two tasks in another order than that of tables; one run twice, one unfinished, one of another
    grid, and one of a cell that the grid no longer has."""
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


@pytest.fixture(scope="session")
def ids(shared: Callable[[str, Callable[[Path], Any]], Any], ready_store: Path) -> dict[str, str]:
    made: dict[str, str] = shared("compared_runs", runs_in)
    return made


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


@contextmanager
def told(commands: Commands, folder: str) -> Iterator[list[str]]:
    """The addresses that the command tells; afterwards it is ended by Ctrl-C, and its server with it."""
    command = [sys.executable, "-m", "scripts", "experiment", "compare", "--out", folder, "--grid", "mini"]
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    read, write = os.pipe()
    with open(read) as said:  # noqa: PTH123 - a pipe
        process = commands.start(command, cwd=ROOT, env=environment, stdout=write)
        os.close(write)
        lines = []
        for line in said:
            lines.append(line.strip())
            if line.startswith("Ctrl-C"):
                break
        addresses = [line for line in lines if line.startswith("http")]
        try:
            assert lines[0] == "Starting MLflow ..."
            yield addresses
        finally:
            process.send_signal(signal.SIGINT)
            rest = said.read()
            assert process.wait(120) == 0
    assert "MLflow is stopped." in rest
    server = addresses[0].partition("/#")[0]
    with pytest.raises(OSError, match="refused"):
        urlopen(f"{server}/health", timeout=5)


@pytest.mark.slow
def test_the_command_shows_the_runs_until_ctrl_c(
    ids: dict[str, str], commands: Commands, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    # all that is asked of a server in one test: it takes many seconds to start
    with told(commands, ids["folder"]) as addresses:
        server = addresses[0].partition("/#")[0]
        check_that_it_is_not_served_again(server, ids)
        browser = request.getfixturevalue("browser")
        check_pages(browser, addresses[0], addresses[-1], [name for name in ids if name not in ("folder", "uri")])
        check_picture(picture_comparison(server, "mini", tmp_path / "charts.png", tags={"task": "ixi_seg"}))


def check_that_it_is_not_served_again(server: str, ids: dict[str, str]) -> None:
    told: list[str] = []
    serve(f"{server}/", "mini", tell=told.append)
    text = "\n".join(told)
    assert f"{server}/#/compare-runs" in text
    assert "Starting" not in text
    body = json.dumps({"experiment_ids": [find_runs(server, "mini").experiment], "filter": filter_of(text)})
    request = Request(
        f"{server}/api/2.0/mlflow/runs/search", body.encode(), headers={"Content-Type": "application/json"}
    )
    with urlopen(request, timeout=120) as answer:
        found = json.load(answer)["runs"]
    assert len(found) == 9  # the table shows all, the unfinished and the forgotten too
    assert set(find_runs(ids["uri"], "mini").all()) < {run["info"]["run_id"] for run in found}


def filter_of(text: str) -> str:
    """Return the filter of the table's address."""
    address = next(word for word in reversed(text.split()) if "searchFilter" in word)
    return parse_qs(urlsplit(address).fragment.partition("?")[2])["searchFilter"][0]


def check_pages(browser: Browser, comparison: str, table: str, names: list[str]) -> None:
    shown = [f"{name}-20" for name in names]  # runs are named after what they are, and when they began
    head = "Comparing 6 Runs from 1 Experiment"
    for address, words in ((comparison, [head, "test/all/DSC", *shown]), (table, shown)):
        page = browser.page(address, size=(1600, 2400))
        text = page.text(*words)
        page.close()
        assert [word for word in words if word not in text] == [], text


def check_picture(path: Path) -> None:
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert picture.shape == (1000, 1300, 3)
    charts = picture[300:, 520:]
    assert ((charts.max(-1) - charts.min(-1)) > 60).mean() > 0.005  # MLflow's own page is grey there; bars are coloured
