"""The server: MONAI Label's, on this machine alone by default, behind a guard, with reasons in its errors."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.bundles import ROOT
from scripts.errors import InputError
from scripts.label.access import Access, is_loopback, make_access
from scripts.label.served_bundles import Served, serve_bundles
from scripts.label.uploads import IMAGE_ENDINGS

__all__ = ["serve"]

_INSTALL = "pip install -e '.[label]' && pip install --no-deps pydicom-seg==0.4.1 monailabel==0.8.5"
_MAIN = '''"""Written by `python -m scripts label`, anew at each start."""

import sys

sys.path.insert(0, {root!r})

from scripts.label.app import BundlesApp  # noqa: E402


class MONAILabelBundles(BundlesApp):
    pass
'''


def serve(
    studies: str | Path,
    bundles: Sequence[str],
    *,
    app: str | Path | None = None,
    weights: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    allowed_hosts: Sequence[str] = (),
    max_upload_gb: float = 2.0,
) -> None:
    """Serve bundles for labelling until interrupted.

    Args:
        studies: folder of the images.
        bundles: see `scripts.label.served_bundles.serve_bundles`.
        app: folder of the server; default: ``label_app`` beside ``studies``.
        weights: see `scripts.label.served_bundles.serve_bundles`.
        host: address to listen at.
        port: port to listen at.
        token: see `scripts.label.access.make_access`.
        allowed_hosts: see `scripts.label.access.make_access`.
        max_upload_gb: that one request may send [GB].

    Raises:
        InputError: MONAI Label is not installed, no such folder, a taken port, bundles that cannot be served, or see
            `scripts.label.access.make_access`.
    """
    access = make_access(host, token, allowed_hosts)
    max_bytes = _bytes(max_upload_gb)
    beside = Path(studies).absolute().parent  # of the link, where studies is one
    studies = Path(studies).resolve()
    _check(studies, host, port)
    app = (beside / "label_app" if app is None else Path(app)).resolve()
    if app.is_relative_to(studies):
        raise InputError(f"--app {app} lies in the folder of the images: give one elsewhere")
    if studies.is_relative_to(app):
        raise InputError(f"--studies {studies} lies in the folder of the server, {app}: give --app elsewhere")
    app.mkdir(parents=True, exist_ok=True)
    served = serve_bundles(bundles, app, weights)
    for name in ("logs", "bin", "lib", "sessions"):
        (app / name).mkdir(exist_ok=True)
    (app / "main.py").write_text(_MAIN.format(root=str(ROOT)), encoding="utf-8")
    _set_environment(app, studies, port, [one.folder.name for one in served])
    made = access.token if token is None else None
    sys.stdout.write(_greeting(served, studies, app, _address(host, port)) + "\n" + _warning(host, made))
    sys.stdout.flush()
    _run(app, host, port, access, max_bytes)


def _bytes(gigabytes: float) -> int:
    if isinstance(gigabytes, bool) or not isinstance(gigabytes, int | float) or not 0 < gigabytes <= 1e6:
        raise InputError(f"--max_upload_gb {gigabytes!r} cannot be used: give gigabytes, as in 2")
    return int(gigabytes * 1e9)


def _check(studies: Path, host: str, port: int) -> None:
    missing = [name for name in ("monailabel", "uvicorn", "fastapi") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{missing[0]} is not installed: {_INSTALL} (see docs/slicer.md)")
    if not studies.is_dir():
        raise InputError(f"--studies {studies} is no folder: give the one that holds the images")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(f"cannot listen at {host}:{port} ({error.strerror}): give another --port") from error


def _set_environment(app: Path, studies: Path, port: int, names: Sequence[str]) -> None:
    """Set what MONAI Label reads its settings from, also in the processes of its trainings."""
    own = {
        "MONAI_LABEL_APP_DIR": str(app),
        "MONAI_LABEL_STUDIES": str(studies),
        "MONAI_LABEL_APP_CONF": f'{{"bundles": "{",".join(names)}"}}',
        "MONAI_LABEL_SERVER_PORT": str(port),
        "MONAI_LABEL_SESSION_PATH": str(app / "sessions"),
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps([f"*{ending}" for ending in IMAGE_ENDINGS]),
        "MONAI_LABEL_TRACKING_ENABLED": "false",
        "MONAI_ZOO_SOURCE": "local",  # the default asks a server of the network for the model zoo
    }
    os.environ.update(own)
    path = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([path] if path else [])])


def _address(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _greeting(served: Sequence[Served], studies: Path, app: Path, address: str) -> str:
    lines = [f"Serving at {address} (research only, not for clinical use)"]
    lines += [f"  {one}" for one in served]
    lines += [
        f"  images   {studies}; labels that are submitted go to labels/final in it",
        f"  server   {app} (weights in model/, log in logs/app.log, training runs in mlruns.db)",
        "In 3D Slicer: extension MONAILabel, server as above; docs/slicer.md has the rest. Ctrl-C ends the server.",
    ]
    return "\n".join(lines)


def _warning(host: str, made: str | None) -> str:
    """Return what to tell of a server that other machines reach.

    Args:
        host: address that it listens at.
        made: token that was made for it, which nobody knows yet.
    """
    if is_loopback(host):
        return ""
    lines = [
        f"WARNING: {host} is reached from other machines. They have to send the token, as the password of any user;",
        "it and the images travel in the clear: between machines, prefer the tunnel of docs/slicer.md",
    ]
    if made is not None:
        lines.append(f"  token    {made} (of this start; --token sets one that stays)")
    return "\n".join(lines) + "\n"


def _run(app: Path, host: str, port: int, access: Access, max_bytes: int) -> None:
    import uvicorn
    from fastapi.middleware.cors import CORSMiddleware
    from monailabel.app import app as server
    from monailabel.utils.others.generic import init_log_config

    from scripts.label.answers import add_answers
    from scripts.label.guard import Guard

    # web pages of other origins, which MONAI Label lets read all images, are kept out
    server.user_middleware = [one for one in server.user_middleware if one.cls is not CORSMiddleware]
    add_answers(server)
    server.add_middleware(Guard, access=access, max_bytes=max_bytes)  # the last one stands before all others
    config = init_log_config(None, str(app), "app.log", False)
    uvicorn.run(server, host=host, port=port, log_level="info", log_config=config, access_log=True)
