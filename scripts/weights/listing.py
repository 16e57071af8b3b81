"""What weights there are: their hashes, how they were trained, how good they are; or how to make them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bundles import BUNDLE_NAMES, BUNDLES, ROOT
from scripts.errors import InputError
from scripts.tasks import PRETRAIN_BUNDLE
from scripts.weights.provenance import Provenance, plain_value, provenance_of, voxel_spacing
from scripts.weights.shipped import read_card, shipped_file

__all__ = ["describe_weights"]

_WIDTH = 100
_TRAIN = "python -m monai.bundle run --config_file bundles/{name}/configs/train.json"


@dataclass(frozen=True)
class _Entry:
    """Weights of a bundle: their file, and what is known of it, or the error that says why nothing is."""

    bundle: str
    path: Path
    found: Provenance | InputError


def describe_weights(out: str | Path | None = None) -> str:
    """Return in words what weights the checkout's bundles have, or how to make them.

    Args:
        out: folder of a demo or an experiment whose weights are told as well.

    Raises:
        InputError: ``out`` is no folder, or holds no weights.
    """
    own = [entry for name in BUNDLE_NAMES for entry in _find_weights(BUNDLES / name, name)]
    other = _below(Path(out)) if out is not None else []
    if out is not None and not other:
        raise InputError(f"--out {out} holds no weights: give the folder of a demo or an experiment that has trained")
    encoders = [entry for entry in (*own, *other) if entry.bundle == PRETRAIN_BUNDLE]
    parts = [_about_bundle(name, [entry for entry in own if entry.bundle == name], encoders) for name in BUNDLE_NAMES]
    if out is not None:
        parts.append(f"In {out}:")
        parts += ["\n".join(_lines(entry, encoders, named=True)) for entry in other]
    return "\n\n".join(parts)


def _find_weights(folder: Path, bundle: str) -> list[_Entry]:
    """Return the weights in a folder laid out as a bundle: ``models/model.pt``, ``models/*/model.pt``.

    Args:
        folder: that holds ``models``, and ``eval`` with the evaluation.
        bundle: whose weights they are.
    """
    paths = [folder / "models" / "model.pt", *sorted((folder / "models").glob("*/model.pt"))]
    return [_entry(bundle, path) for path in paths if path.is_file()]


def _entry(bundle: str, path: Path) -> _Entry:
    found: Provenance | InputError
    try:
        _check(path)
        found = provenance_of(path, bundle)
    except InputError as error:
        found = error
    return _Entry(bundle, path, found)


def _check(path: Path) -> None:
    """Raise an `InputError` for a file that holds no whole, finite encoder."""
    import torch

    from scripts.weights.encoder_state import read_encoder_state

    for name, value in read_encoder_state(path).items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"{path}: {name} holds NaN or infinity; that training diverged, train again")


def _below(out: Path) -> list[_Entry]:
    """Return the weights of a demo, or of the runs of an experiment."""
    if not out.is_dir():
        raise InputError(f"--out {out} is no folder: give that of a demo or an experiment")
    found = _find_weights(out, PRETRAIN_BUNDLE)
    for name in BUNDLE_NAMES:
        found += _find_weights(out / name, name)
    for run in sorted((out / "runs").glob("*/")):
        name = next((name for name in BUNDLE_NAMES if run.name.startswith(f"{name}-")), PRETRAIN_BUNDLE)
        found += _find_weights(run, name)
    return found


def _about_bundle(name: str, entries: Sequence[_Entry], encoders: Sequence[_Entry]) -> str:
    lines = [name]
    for entry in entries:
        lines += _lines(entry, encoders)
    shipped = shipped_file(BUNDLES / name)
    card = read_card(shipped)
    if card is not None:
        used = ", not used since there are others" if entries else ""
        lines += [f"  {_short(shipped)}", *_row("comes with", f"the checkout{used}: {card.summary}")]
    if not entries:
        lines += [
            f"  no weights{' of your own' if card else ''}; make them with",
            f"    {_TRAIN.format(name=name)}",
        ]
    return "\n".join(lines)


def _lines(entry: _Entry, encoders: Sequence[_Entry], *, named: bool = False) -> Iterator[str]:
    """Yield what is known of weights, line by line; a path has a line of its own, as it cannot be broken."""
    yield f"  {_short(entry.path)}"
    if isinstance(entry.found, InputError):
        yield from _row("damaged", str(entry.found).replace(str(entry.path), entry.path.name))
        return
    found = entry.found
    if named:
        yield from _row("bundle", entry.bundle)
    yield from _row("size", f"{entry.path.stat().st_size / 1e6:.1f} MB")
    yield from _row("SHA-256", found.sha256)
    yield from _row("training", found.note or _training(found) or "unknown: no checkpoint lies beside it")
    if entry.bundle != PRETRAIN_BUNDLE and found.settings:
        yield from _row("encoder", _encoder(found.settings, encoders))
    scores = [f"{measure} {value}" for measure, value in found.scores.items()]
    for number, score in enumerate(scores or ["none since these weights were made"]):
        yield from _row("" if number else "evaluation", score)


def _row(name: str, text: str) -> list[str]:
    head = f"    {name:12s}"
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [head.rstrip()]


def _training(found: Provenance) -> str:
    """Return in words how weights were trained, empty if nothing is known."""
    settings = found.settings
    if not settings:
        return ""
    cohort = {"embedded": "embedded (simulated) cohort", "real": "real cohort"}.get(str(settings.get("cohort")))
    spacing, patch = voxel_spacing(settings), settings.get("patch_size")
    words = [
        *(str(settings[name]) for name in ("mode", "modality", "contrastive") if name in settings),
        f"variant {settings['variant']}" if "variant" in settings else "",
        cohort or "unknown cohort",
        _subjects(settings),
        f"label fraction {settings['label_fraction']:g}" if "label_fraction" in settings else "",
        f"epoch {found.epoch}, {found.steps} steps",
        f"seed {settings['seed']}" if "seed" in settings else "",
        f"widths {plain_value(settings.get('channels', settings.get('features', 'unknown')))}",
        f"patches of {patch} voxels" if patch else "",
        f"at {spacing:g} mm" if spacing else "at the images' own spacing or an unknown one",
    ]
    return ", ".join(word for word in words if word)


def _subjects(settings: Mapping[str, Any]) -> str:
    if "training_subjects" in settings:
        subjects = str(settings["training_subjects"])
        return f"trained on {subjects}" if " subjects" in subjects else f"trained on subjects {subjects}"
    cohort = plain_value(settings.get("embedded"))
    if isinstance(cohort, Mapping) and "subjects" in cohort:
        return f"{cohort['subjects']} subjects"
    return "unknown number of subjects"


def _encoder(settings: Mapping[str, Any], encoders: Sequence[_Entry]) -> str:
    """Return in words which encoder a task was trained on, and where that is."""
    sha = str(settings.get("encoder") or "")
    if not sha:
        return f"none pretrained ({settings.get('variant', 'unknown')})"
    how = "frozen" if settings.get("frozen") else "trained along"
    same = [
        _short(entry.path)
        for entry in encoders
        if isinstance(entry.found, Provenance) and entry.found.sha256.startswith(sha)
    ]
    where = f"that of {same[0]}" if same else "which is none of those listed here"
    return f"{sha}, {how}, {where}"


def _short(path: Path) -> str:
    """Return a path as one would type it from the root of the checkout."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
