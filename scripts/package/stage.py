"""A bundle as a folder that stands on its own: its files, the modules that it needs, its weights; checked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from scripts.bundles import ROOT
from scripts.errors import InputError
from scripts.package.bake import ENCODER, bake_training
from scripts.package.needed_files import config_modules, needed_files
from scripts.weights.provenance import Provenance, provenance_of

__all__ = ["check_staged", "stage_bundle"]

_KEPT = {"configs": (".json", ".conf"), "docs": (".md", ".txt", ".png", ".jpg", ".svg")}
_TEXT = (".json", ".conf", ".md", ".txt", ".py", ".css", ".js")
_LOCAL = re.compile(r"(?<![\w.:/])/(?:home|root|Users|tmp|mnt|media|scratch|work|opt|srv)/[\w.-]+|\b[A-Z]:\\\\?[\w.-]+")
_CHECKOUT = re.compile(r"<!-- checkout: (\w+) -->\n(.*?)\n<!-- end -->", re.DOTALL)
_PACKED = {
    "weights": "How the weights in `models/model.pt` were trained stands in `configs/metadata.json`, key `training`.",
    "encoder": "Training starts from the encoder in `models/encoder`; `--encoder_bundle` names another. The folder\n"
    "`models` would get the new weights, so give them one of their own by `--ckpt_dir`:",
    "place": "All from the folder of this bundle; from elsewhere, give files by their path. `python -m scripts ...`\n"
    "and pages that are named without a link belong to a checkout of the project.",
}
_OF_WEIGHTS = ("weights", "encoder")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)[^)]*\)")

# run inside of the staged folder, without this project on the path
_CHECK = """
import importlib, json, pathlib, pydoc, sys
sys.path.insert(0, "")
root = pathlib.Path.cwd()
import scripts
assert root in pathlib.Path(scripts.__file__).resolve().parents, scripts.__file__
for path in sorted(root.glob("scripts/**/*.py")):
    parts = path.relative_to(root).with_suffix("").parts
    importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
def targets(node):
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from targets(value)
    if isinstance(node, dict) and isinstance(node.get("_target_"), str):
        yield node["_target_"]
for path in sorted(root.glob("configs/*.json")):
    for name in targets(json.loads(path.read_text(encoding="utf-8"))):
        if name.startswith("scripts.") and pydoc.locate(name) is None:
            sys.exit(f"{path.name}: there is no {name}")
if (root / "models" / "model.pt").is_file():
    from monai.bundle import ConfigParser
    parser = ConfigParser()
    parser.read_config("configs/inference.json")
    try:
        parser.get_parsed_content("weights")
    except Exception as error:
        from scripts.errors import find_input_error
        sys.exit(str(find_input_error(error) or repr(error)))
"""


def stage_bundle(bundle: Path, target: Path, weights: Path | None = None) -> Provenance | None:
    """Copy a bundle of the checkout into a folder that needs nothing of the checkout.

    Configs get the settings of the training of the weights, ``metadata.json`` a key ``training`` with what is known
    of it. Links of the pages that lead out of the bundle become plain text.

    Args:
        bundle: folder of the bundle in the checkout.
        target: folder to make; its name is the bundle's. What lies there is replaced.
        weights: file that becomes ``models/model.pt``; None: the bundle has no weights.

    Returns:
        What is known of the weights.

    Raises:
        InputError: a file that may not be shipped, a config that names what there is not, or weights that do not
            fit.
    """
    if target.exists():
        shutil.rmtree(target)
    for path in _own_files(bundle):
        _copy(path, target / path.relative_to(bundle))
    modules = config_modules(sorted((bundle / "configs").glob("*.json")), ROOT)
    for file in needed_files(modules, ROOT):
        _copy(ROOT / file, target / file)
    for page in (target / "docs").glob("*.md"):
        page.write_text(_packed_page(page.read_text(encoding="utf-8"), page, target, weights), encoding="utf-8")
    found = None
    if weights is not None:
        found = provenance_of(weights, bundle.name)
        _ship_weights(weights, target, found)
    _refuse_local_paths(target)
    return found


def check_staged(folder: Path) -> None:
    """Import all of a staged bundle and load its weights, in a process that sees nothing but the folder.

    Raises:
        InputError: something is missing, or the weights do not fit the network of its ``inference.json``.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-B", "-W", "ignore", "-c", _CHECK],
        cwd=folder,
        env={**kept, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).strip().splitlines() if line.strip()]
        reason = re.sub(r"^\S*(Error|Exception): ", "", lines[-1]) if lines else "no reason given"
        raise InputError(f"{folder.name} does not stand on its own: {reason}")


def _own_files(bundle: Path) -> Iterator[Path]:
    """Yield the files of a bundle that are shipped, after checking that nothing else lies among them."""
    yield bundle / "LICENSE"
    for name, endings in _KEPT.items():
        for path in sorted((bundle / name).rglob("*")):
            if path.is_symlink():
                raise InputError(f"{path} is a link: put the file itself there")
            if path.is_dir():
                continue
            if path.suffix not in endings:
                raise InputError(f"{path} is no part of a bundle: move it away ({', '.join(endings)} belong there)")
            yield path


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise InputError(f"{source} is missing: restore it")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _packed_page(text: str, page: Path, target: Path, weights: Path | None) -> str:
    """Return a page for who has nothing but the bundle.

    What holds in a checkout alone, between marks, is replaced, paths begin in the bundle's folder, and links to files
    outside of it are plain text.
    """

    def instead(found: re.Match[str]) -> str:
        key = found[1]
        return found[2] if key in _OF_WEIGHTS and weights is None else _PACKED[key]

    text = _CHECKOUT.sub(instead, text)
    text = re.sub(rf"(?<![\w./])bundles/{target.name}/", "", text)

    def keep(found: re.Match[str]) -> str:
        picture, words, where = found.groups()
        if "://" in where or (page.parent / where).resolve().is_relative_to(target.resolve()):
            return found.group(0)
        return "" if picture else words

    return _LINK.sub(keep, text)


def _ship_weights(weights: Path, target: Path, found: Provenance) -> None:
    """Copy weights into a bundle; a downstream one also gets their encoder apart, so that its training finds one."""
    _copy(weights, target / "models" / "model.pt")
    variant = str(found.settings.get("variant", "unknown"))
    encoder = target.name != "pretrain_seqinv" and variant not in ("scratch", "random")
    if encoder:
        import torch

        from scripts.weights.encoder_state import read_encoder_state

        (target / ENCODER).parent.mkdir()
        torch.save({"encoder": read_encoder_state(weights), "variant": variant}, target / ENCODER)
    bake_training(target, found, encoder=encoder)


def _refuse_local_paths(target: Path) -> None:
    for path in sorted(target.rglob("*")):
        if path.suffix not in _TEXT:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            local = _LOCAL.search(line)
            if local and "_LOCAL = " not in line:
                where = path.relative_to(target)
                raise InputError(f"{target.name}/{where}, line {number}, holds the local path {local[0]}: take it out")
