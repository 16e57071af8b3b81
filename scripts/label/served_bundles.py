"""The bundles that a server offers: copies of their own, whose weights it may train on."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bundles import BUNDLES
from scripts.errors import InputError
from scripts.io.files import atomic_write
from scripts.package import check_staged, stage_bundle, unpack_bundle
from scripts.tasks import PRETRAIN_BUNDLE, TASKS, TRAIN_MAPS
from scripts.weights.map_network import read_map_network
from scripts.weights.provenance import file_sha256, weights_file

__all__ = ["RETRAINED", "SOURCE", "Served", "serve_bundles"]

SOURCE = "source.json"
"""In the folder of a served bundle: the SHA-256 of what it was made from."""
RETRAINED = "retrained.json"
"""In the folder of a served bundle: of which training its weights are, if not of those that it came with."""


_OFFERED = (*TASKS, PRETRAIN_BUNDLE)


@dataclass(frozen=True)
class Served:
    """A bundle that is offered.

    Attributes:
        folder: its copy.
        sha256: of the weights that are served.
        retrained: what is known of the training in the server that these are of; empty: they came with it.
    """

    folder: Path
    sha256: str
    retrained: Mapping[str, Any]

    def __str__(self) -> str:
        metadata = json.loads((self.folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
        known = metadata.get("training", {})
        words = [str(known[name]) for name in ("variant", "modality") if name in known]
        words += [f"{known['cohort']} data"] if "cohort" in known else ["nothing known of their training"]
        if self.retrained:
            words.append(f"trained on {self.retrained['when']} with {self.retrained['images']} labelled images")
        return f"{self.folder.name}: {metadata['name']}; weights {self.sha256[:12]} ({', '.join(words)})"


def serve_bundles(names: Sequence[str], app: Path, weights: str | Path | None = None) -> list[Served]:
    """Bring bundles into the folder of a server, each whole and checked, and return them.

    A bundle that lies there already is kept where nothing it was made from has changed; weights that were trained in
    the server are kept in any case.

    Args:
        names: of bundles of the checkout, or paths of their archives, as `scripts.package` makes them.
        app: folder of the server.
        weights: for bundles of the checkout, see `scripts.weights.provenance.weights_file`.

    Raises:
        InputError: an unknown or doubled name, no weights, weights that do not fit, or a damaged archive.
    """
    served: dict[str, Served] = {}
    for name in names:
        one = _from_archive(Path(name), app) if name.endswith(".zip") else _from_checkout(name, app, weights)
        if one.folder.name in served:
            raise InputError(f"bundle {one.folder.name} is named twice: name each once")
        served[one.folder.name] = one
    if not served:
        raise InputError(f"no bundle is named: choose some of {', '.join(_OFFERED)}, or archives of them")
    return list(served.values())


def _from_checkout(name: str, app: Path, weights: str | Path | None) -> Served:
    if name not in _OFFERED:
        raise InputError(f"there is no bundle {name}: choose some of {', '.join(_OFFERED)}, or archives of them")
    found = weights_file(BUNDLES / name, weights)
    if found is None:
        train = f"python -m monai.bundle run --config_file bundles/{name}/configs/train.json"
        demo = ", or type `python -m scripts demo` and then `--weights demo`"
        raise InputError(
            f"{name} has no weights ({BUNDLES / name / 'models' / 'model.pt'} is missing): train it with "
            + (f"`{TRAIN_MAPS}`" if name == PRETRAIN_BUNDLE else f"`{train}`{demo}")
        )
    _check_maps(name, found)
    return _placed(app / "model" / name, file_sha256(found), lambda target: stage_bundle(BUNDLES / name, target, found))


def _from_archive(path: Path, app: Path) -> Served:
    if path.stem not in _OFFERED:
        raise InputError(f"{path} is no archive of a bundle that can be served: {', '.join(_OFFERED)}")
    if not path.is_file():
        raise InputError(f"{path} does not exist: make it with `python -m scripts package {path.stem}`")

    def unpack(target: Path) -> None:
        unpack_bundle(path, target.parent)
        if not (target / "models" / "model.pt").is_file():
            raise InputError(f"{path} holds no weights: package {path.stem} once it is trained")
        _check_maps(path.stem, target / "models" / "model.pt")

    return _placed(app / "model" / path.stem, file_sha256(path), unpack)


def _check_maps(name: str, weights: Path) -> None:
    """Raise `InputError` where a pretraining's weights find no maps: an encoder gives neither labels nor an image."""
    if name == PRETRAIN_BUNDLE:
        read_map_network(weights)


def _placed(target: Path, source: str, make: Callable[[Path], object]) -> Served:
    """Return a bundle at its place, made anew where its source is another than before."""
    known = _read(target / SOURCE)
    retrained = _read(target / RETRAINED)
    if known.get("sha256") != source and not retrained:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
            made = Path(scratch) / target.name
            make(made)
            check_staged(made)
            content = json.dumps({"sha256": source}) + "\n"
            atomic_write(made / SOURCE, lambda part: part.write_text(content, encoding="utf-8"))
            if target.exists():
                shutil.rmtree(target)
            made.rename(target)
    else:
        check_staged(target)
    return Served(target, file_sha256(target / "models" / "model.pt"), retrained)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
