"""Splits by subject: made once from the sorted names, written with a hash that is verified on reading."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.errors import InputError
from scripts.io.files import atomic_write

__all__ = [
    "PARTS",
    "claim_split",
    "keep_split",
    "label_subset",
    "read_split",
    "select",
    "split_file",
    "split_subjects",
    "write_split",
]

PARTS = ("training", "validation", "test")

_DRAW = 3  # first word of the entropy, see scripts.data.regions

logger = logging.getLogger(__name__)


def split_subjects(
    names: Iterable[str],
    fractions: Sequence[float] = (0.7, 0.1),
    *,
    test: Iterable[str] = (),
    people: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the split of the sorted subjects: the first 70 % training, the next 10 % validation, rest test.

    Each count is ``int(n * fraction)``, as published; from three subjects on every part has one at least, two
    are training and test, one is training. A name given twice (two sessions) counts once, so that no subject
    can be on both sides.

    Args:
        names: names of subjects, in any order.
        fractions: of training and of validation, both positive, together below 1.
        test: names of further subjects that are all tested on, such as those of other sites.
        people: name -> person, where several subjects are one person's: then the sorted people are split, and all
            subjects of a person go together; of ``test`` those are left out whose person is not tested on.

    Returns:
        ``{"training": [...], "validation": [...], "test": [...], "sha256": hash of the three lists}``.

    Raises:
        InputError: if there is no subject or the fractions leave nothing for the test.
    """
    ordered = sorted(set(names))
    if not ordered:
        raise InputError("no subjects to split: check dataset_dir")
    if len(fractions) != 2 or min(fractions) <= 0 or sum(fractions) >= 1:
        raise InputError(f"fractions={tuple(fractions)}: give two positive numbers that add up to less than 1")
    of = {name: (people or {}).get(name, name) for name in ordered}
    units = sorted(set(of.values()))
    n = len(units)
    n_training = max(1, min(int(n * fractions[0]), n - 2))
    n_validation = min(max(1, int(n * fractions[1])), n - n_training - 1) if n > 2 else 0
    ends = (n_training, n_training + n_validation, n)
    starts = (0, *ends)
    members = {part: set(units[start:end]) for part, start, end in zip(PARTS, starts, ends, strict=False)}
    parts = {part: [name for name in ordered if of[name] in members[part]] for part in PARTS}
    taken = members["training"] | members["validation"]
    further = {name for name in test if (people or {}).get(name, name) not in taken}
    parts["test"] = sorted({*parts["test"], *further})
    return {**parts, "sha256": _hash(parts)}


def select(
    data: Sequence[dict[str, Any]],
    split: str,
    *,
    splits: Mapping[str, Any] | str | Path | None = None,
    fractions: Sequence[float] = (0.7, 0.1),
) -> list[dict[str, Any]]:
    """Return the entries of ``data`` whose ``"subject"`` is in one part of a split, in their order.

    Args:
        data: entries with a ``"subject"``; several entries (sessions) of one subject stay together, and so do all
            subjects of one ``"person"``, where entries have that.
        split: ``training``, ``validation`` or ``test``.
        splits: a split, or the JSON file of one; None makes it from the subjects of ``data``.
        fractions: of training and validation, where the split is made here.

    Raises:
        InputError: if ``split`` is unknown, the part is empty, or it names subjects that ``data`` lacks.
    """
    if split not in PARTS:
        raise InputError(f"split={split!r} is unknown: choose from {', '.join(PARTS)}")
    present = {str(entry["subject"]) for entry in data}
    if splits is None:
        people = {str(entry["subject"]): str(entry["person"]) for entry in data if entry.get("person")}
        splits = split_subjects(present, fractions, people=people)
    elif not isinstance(splits, Mapping):
        splits = read_split(splits)
    wanted = set(splits[split])
    absent = sorted(wanted - present)
    if absent:
        raise InputError(
            f"the data lacks {len(absent)} of the {len(wanted)} {split} subjects, first {absent[0]}: "
            "add them, or write a new split"
        )
    unknown = present.difference(*(splits[part] for part in PARTS))
    if unknown:
        logger.warning("%d subjects stand in no part of the split, first %s", len(unknown), min(unknown))
    chosen = [dict(entry) for entry in data if entry["subject"] in wanted]
    if not chosen:
        raise InputError(f"no {split} subjects among {len(present)}: three subjects fill every part")
    return chosen


def write_split(split: Mapping[str, Any], path: str | Path) -> Path:
    """Write a split as JSON, in one move so that no reader finds half a file, and return its path."""
    text = json.dumps(dict(split), indent=4) + "\n"
    return atomic_write(path, lambda part: part.write_text(text, encoding="utf-8"))


def claim_split(split: Mapping[str, Any], path: str | Path) -> Path:
    """Write a split, or make sure that the one written there before is the same.

    Raises:
        InputError: if another split lies there: one run would be tested on what another was trained on.
    """
    path = Path(path)
    if path.is_file() and read_split(path)["sha256"] != split["sha256"]:
        raise InputError(
            f"{path} is a split of other subjects than those of this dataset: choose another --work_dir, or delete it"
        )
    return write_split(split, path)


def split_file(modality: str | None = None) -> str:
    """Return the name of the file of a dataset's split: over all its subjects, or over those of one modality."""
    return f"split-{modality}.json" if modality else "split.json"


def keep_split(split: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Return the split that lies at ``path``, or ``split`` where none does.

    So a dataset that was split once stays so when subjects come or go; a warning tells what that leaves out.

    Raises:
        InputError: if what lies there is no split.
    """
    path = Path(path)
    if not path.is_file():
        return split
    kept = read_split(path)
    if kept["sha256"] != split["sha256"]:
        names = {name for part in PARTS for name in split[part]}
        new = names.difference(*(kept[part] for part in PARTS))
        extra = f"; {len(new)} subjects stand in no part of it" if new else ""
        logger.warning("The split of %s is taken, not one made now%s: delete the file to split anew", path, extra)
    return kept


def label_subset(
    names: Sequence[str], fraction: float, draw: int = 0, people: Mapping[str, str] | None = None
) -> list[str]:
    """Return the subjects whose labels a run with few labels may use: those of ``max(1, int(n * fraction))`` people.

    Args:
        names: training subjects in the order of the split.
        fraction: 0 < fraction <= 1, of the n people.
        draw: 0 takes the first ones, as published; any other number draws as many at random.
        people: name -> person, where several subjects are one person's; else each is its own.

    Raises:
        InputError: if the fraction or the draw is out of range or there are no subjects.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"label_fraction={fraction}: give a share above 0, up to 1")
    if not names:
        raise InputError("no training subjects to take labels of: check dataset_dir and --modality")
    if draw < 0:
        raise InputError(f"draw={draw}: give 0 for the first subjects, a number above 0 for others at random")
    of = {name: (people or {}).get(name, name) for name in names}
    units = list(dict.fromkeys(of.values()))
    n = max(1, int(len(units) * fraction + 1e-9))
    order = range(len(units)) if draw == 0 else np.random.default_rng([_DRAW, draw]).permutation(len(units))
    chosen = {units[i] for i in order[:n]}
    return [name for name in names if of[name] in chosen]


def read_split(path: str | Path) -> dict[str, Any]:
    """Return a split that `write_split` wrote.

    Raises:
        InputError: if the file is missing, is no split, was changed, or has one subject in two parts.
    """
    path = Path(path)
    try:
        split = json.loads(path.read_text(encoding="utf-8"))
        parts = {part: [str(name) for name in split[part]] for part in PARTS}
        written = split["sha256"]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give the JSON of a split") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no split with {', '.join(PARTS)} and sha256: write it anew") from error
    names = [name for part in PARTS for name in parts[part]]
    if len(names) != len(set(names)):
        raise InputError(f"{path} has a subject in two parts: write the split anew")
    if _hash(parts) != written:
        raise InputError(f"{path} was changed after it was written (sha256 differs): restore or write it anew")
    return {**parts, "sha256": written}


def _hash(parts: Mapping[str, list[str]]) -> str:
    content = json.dumps({part: parts[part] for part in PARTS}, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
