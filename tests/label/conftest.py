"""Two tiny trained bundles as archives, heads to label, and the real server in a process of its own."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.bundles import ROOT
from tests.commands.client import Commands

Shared = Callable[[str, Callable[[Path], Any]], Any]
Part = str | Path | tuple[str, bytes]
NAMES = ("ixi_seg", "ixi_denoise")
_START = 600  # seconds until the server must answer


@pytest.fixture(scope="session")
def monailabel() -> None:
    """Skip where MONAI Label is absent, unless the environment says that it has to be there."""
    missing = [name for name in ("monailabel", "uvicorn") if importlib.util.find_spec(name) is None]
    if not missing:
        return
    if os.environ.get("SEQINV_LABEL_TESTS") == "required":
        pytest.fail(f"{missing[0]} is not installed, and SEQINV_LABEL_TESTS=required wants it")
    pytest.skip("MONAI Label is not installed: docs/slicer.md says how")


@pytest.fixture(scope="session")
def heads(small_cohorts: dict[str, Path]) -> Path:
    """A labelled cohort of seven heads at 4 mm."""
    return small_cohorts["ixi"]


@pytest.fixture(scope="session")
def run_bundle(commands: Commands, environment: dict[str, str]) -> Callable[..., None]:
    """Type ``python -m monai.bundle run``."""

    def run(config: Path, cwd: Path, **settings: Any) -> None:
        options = []
        for key, value in settings.items():
            options += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
        words = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config), *options]
        done = commands.run(words, cwd=cwd, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.fixture(scope="session")
def archives(packed_away: Callable[[str], Any]) -> dict[str, Path]:
    """Bundle -> archive with weights that a step has made."""
    return {name: packed_away(name).archive for name in NAMES}


def oblique(affine: np.ndarray) -> np.ndarray:
    """Turn world coordinates about two axes, by 7 and 4 degrees."""
    a, b = np.deg2rad(7.0), np.deg2rad(-4.0)
    turn = np.eye(4)
    turn[:3, :3] = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
    tilt = np.eye(4)
    tilt[:3, :3] = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    return np.asarray(turn @ tilt @ affine)


@pytest.fixture(scope="session")
def studies(heads: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three heads in a folder whose name has a space: oblique, 3 x 4 x 8 mm, axes to the back, top and right."""
    folder = tmp_path_factory.mktemp("of the lab") / "studies"
    folder.mkdir()
    for number, path in enumerate(sorted(heads.glob("IXI*-T1.nii.gz"))[:3], 1):
        nib.save(_turned(nib.load(path)), folder / f"head{number}.nii.gz")
    (folder / "broken.nii.gz").write_bytes(b"no image")
    return folder


def _turned(image: nib.Nifti1Image) -> nib.Nifti1Image:
    upright = nib.as_closest_canonical(image)
    thick = upright.slicer[:, :, ::2]
    turned = thick.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt("PSR"))
    )
    return nib.Nifti1Image(np.asarray(turned.dataobj, np.float32), oblique(turned.affine))


@dataclass
class Answer:
    """What the server said: status, media type, content."""

    status: int
    kind: str
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def detail(self) -> str:
        return str(self.json["detail"])


class Server:
    """``python -m scripts label``, started and stopped as in a terminal."""

    def __init__(self, words: list[str], log: Path, begin: Callable[..., subprocess.Popen[Any]]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.log = log
        self.token = ""
        command = [sys.executable, "-m", "scripts", "label", *words, "--port", str(port)]
        with log.open("wb") as out:
            self.process = begin(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)

    def wait(self) -> None:
        """Wait until it answers."""
        until = time.monotonic() + _START
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            made = re.search(r"^ +token +(\S+)", self.log.read_text(), re.MULTILINE)
            self.token = made[1] if made else ""
            try:
                if self.get("/info/").status == 200:
                    return
            except OSError:
                time.sleep(0.2)
        pytest.fail(f"no answer within {_START} s: {self.log.read_text()}")

    def get(self, path: str) -> Answer:
        return self.send("GET", path)

    def send(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> Answer:
        return self.raw(method, path, body, {"Content-Type": kind} if body else {})

    def raw(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request whose path and headers are as they are given; an iterable body goes in pieces."""
        told = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        connection = http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=900)
        try:
            connection.request(method, path, body=body, headers={**told, **(headers or {})})
            reply = connection.getresponse()
            return Answer(reply.status, reply.headers.get_content_type(), reply.read())
        finally:
            connection.close()

    def post(self, path: str, content: dict[str, Any] | None = None) -> Answer:
        return self.send("POST", path, json.dumps(content or {}).encode())

    def form(self, method: str, path: str, **parts: Part | list[Path]) -> Answer:
        """Send a form: texts, files, and contents with the names that they are sent under."""
        edge = "----edge"
        lines = b""
        for name, given in parts.items():
            for value in given if isinstance(given, list) else [given]:
                called, content = value if isinstance(value, tuple) else (None, b"")
                if isinstance(value, Path):
                    called, content = value.name, value.read_bytes()
                elif isinstance(value, str):
                    content = value.encode()
                told = f'form-data; name="{name}"' + ("" if called is None else f'; filename="{called}"')
                lines += f"--{edge}\r\nContent-Disposition: {told}\r\n\r\n".encode() + content + b"\r\n"
        return self.send(method, path, lines + f"--{edge}--\r\n".encode(), f"multipart/form-data; boundary={edge}")

    def infer(self, model: str, image: str, **params: Any) -> Answer:
        """Return the file that a model makes of an image of the studies."""
        query = urllib.parse.urlencode({"image": image, "output": "image"})
        return self.form("POST", f"/infer/{model}?{query}", params=json.dumps(params))

    def until_idle(self, path: str, timeout: float = 900) -> Any:
        """Wait for the end of a training or a batch, and return what the server tells of it."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            told = self.get(path)
            if told.status == 200 and told.json.get("status") not in ("RUNNING", "PENDING", "SUBMITTED"):
                return told.json
            time.sleep(0.2)
        pytest.fail(f"still at work after {timeout} s: {self.log.read_text()}")

    def stop(self) -> int:
        """Press Ctrl-C."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()


@pytest.fixture(scope="session")
def start(
    monailabel: None, commands: Commands, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Server]]:
    """Start a server with some options and wait until it answers; ``anew``, in a new process of Python, not a fork."""
    running: list[Server] = []

    def make(*words: str, anew: bool = False) -> Server:
        begin = partial(subprocess.Popen if anew else commands.start, env=environment)
        server = Server(list(words), tmp_path_factory.mktemp("log") / "server.txt", begin)
        running.append(server)
        server.wait()
        return server

    yield make
    for server in running:
        server.stop()
