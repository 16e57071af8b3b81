"""The requests that are answered: of MONAI Label's own, those that labelling needs, and what each may say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scripts.errors import InputError
from scripts.label.uploads import IMAGE_ENDINGS, Upload, check_image, check_session
from scripts.label.values import (
    Check,
    check_device,
    check_flag,
    check_ignored,
    check_metadata,
    check_name,
    check_tag,
    in_json,
    number,
    one_of,
    or_nothing,
    shown,
    text_like,
)

__all__ = ["MAX_EPOCHS", "MAX_VAL_SPLIT", "Door", "find_door"]

MAX_EPOCHS = 100_000
"""Of a training, and steps of each."""
MAX_VAL_SPLIT = 0.9

_PARTS = {"{word}": r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "{session}": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"}


@dataclass(frozen=True)
class Door:
    """What a request may say.

    Attributes:
        method: of HTTP.
        path: of which places in braces stand for words.
        query: field -> its check.
        form: field -> the check of its text; with `file`, the body is a form.
        file: field of the form that holds files; empty: there is none.
        body: key -> check of a body that is JSON; None: the body is no JSON.
    """

    method: str
    path: str
    query: Mapping[str, Check] = field(default_factory=dict)
    form: Mapping[str, Check] = field(default_factory=dict)
    file: str = ""
    body: Mapping[str, Check] | None = None

    def is_of(self, method: str, path: str) -> bool:
        """Return whether a request comes here; FastAPI sends on what has a slash too many or few."""
        pattern = self.path.rstrip("/")
        for part, words in _PARTS.items():
            pattern = pattern.replace(part, words)
        return method == self.method and re.fullmatch(f"{pattern}/?", path, re.ASCII) is not None

    def check_query(self, given: Sequence[tuple[str, str]]) -> None:
        """Refuse a query with an unknown field, or a value that cannot be used.

        Raises:
            InputError: says which.
        """
        for name, value in given:
            _known(self.query, name, "the address")(name, value)

    def check_form(self, given: Sequence[tuple[str, Any]], query: Sequence[tuple[str, str]]) -> None:
        """Refuse a form with an unknown field, a value that cannot be used, or a file that is not taken.

        Args:
            given: field -> text or file.
            query: of the request.

        Raises:
            InputError: says which.
        """
        files: list[Upload] = []
        for name, value in given:
            if name == self.file and not isinstance(value, str):
                files.append(value)
            else:
                check = _known(self.form, name, "the form")
                if not isinstance(value, str):
                    raise InputError(f"{name} is a file: send it as text")
                check(name, value)
        if self.path.startswith("/session/"):
            check_session(self.file, files)
            return
        named = self.path.startswith("/datastore/") and not any(value for _, value in query)
        for one in files:
            check_image(self.file, one, named=named)


def find_door(method: str, path: str) -> Door | None:
    """Return what is known of a request, None if it is not answered here."""
    return next((door for door in _DOORS if door.is_of(method, path)), None)


def _known(checks: Mapping[str, Check], name: str, where: str) -> Check:
    if name not in checks:
        use = f"use {', '.join(checks)}" if checks else "leave it out"
        raise InputError(f"{where} says {shown(name)}, which is not taken here: {use}")
    return checks[name]


def _ending(name: str, value: Any) -> None:
    for one in value if isinstance(value, list) and value else [value]:
        or_nothing(one_of(*IMAGE_ENDINGS))(name, one)


def _no_archive(_: str, value: Any) -> None:
    if str(value).lower() != "false":
        raise InputError("archives are not unpacked here: send the files of the series one by one")


_RESULT: dict[str, Check] = {
    "result_extension": _ending,
    "result_dtype": or_nothing(text_like(r"[a-z0-9_]{1,16}", "a type such as uint8")),
    "result_compress": or_nothing(check_flag),
    "device": check_device,
    "model_filename": or_nothing(text_like(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.pt", "a file of models, as in model.pt")),
    "save_label": check_flag,
    "label_tag": check_tag,
    # what 3D Slicer sends, and no model here reads
    "client_id": check_ignored,
    "logging": check_ignored,
}
_SLICER = ("label", "label_info", "selected_label_name", "roi", "slice", "reset_state", "foreground", "background")
_INFER: dict[str, Check] = {**_RESULT, **dict.fromkeys(_SLICER, check_ignored)}
_BATCH: dict[str, Check] = {
    **_RESULT,
    "multi_gpu": check_flag,
    "gpus": text_like(r"all|[0-9]{1,2}(?:,[0-9]{1,2})*", "all, or numbers of GPUs joined by commas"),
    "max_workers": number(0, 64),
    "max_batch_size": number(0, 1_000_000),
}
_TRAIN: dict[str, Check] = {
    "max_epochs": number(1, MAX_EPOCHS),
    "epoch_length": number(1, MAX_EPOCHS),
    "val_split": number(0.0, MAX_VAL_SPLIT),
    "pretrained": check_flag,
    "device": check_device,
    "client_id": check_ignored,
}
_IMAGE = {"image": check_name}
_LABEL = {"label": check_name, "tag": check_tag}
_STATUS = {"all": check_flag, "check_if_running": check_flag}
_KNOWN = {"params": check_metadata}

_DOORS = (
    Door("GET", "/info/"),
    Door(
        "POST",
        "/infer/{word}",
        {"image": or_nothing(check_name), "session_id": or_nothing(text_like(_PARTS["{session}"], "that of a session"))}
        | {"output": one_of("image", "json", "all")},
        {"params": in_json(_INFER)},
        "file",
    ),
    Door("POST", "/batch/infer/{word}", {"images": one_of("all", "labeled", "unlabeled")}, body=_BATCH),
    Door("GET", "/batch/infer", _STATUS),
    Door("DELETE", "/batch/infer"),
    Door("POST", "/train/{word}", {"enqueue": check_flag}, body=_TRAIN),
    Door("GET", "/train/", _STATUS),
    Door("DELETE", "/train/"),
    Door("POST", "/activelearning/{word}", body={"client_id": check_ignored}),
    Door("GET", "/datastore/", {"output": one_of("all", "stats", "train")}),
    *(
        Door("PUT", path, {"image": or_nothing(check_name)}, _KNOWN, "file")
        for path in ("/datastore/", "/datastore/image")
    ),
    *(Door("DELETE", path, {"id": check_name}) for path in ("/datastore/", "/datastore/image")),
    Door("GET", "/datastore/image", _IMAGE),
    Door(
        "HEAD",
        "/datastore/image",
        {**_IMAGE, "check_sum": text_like(r"(?:(?:MD5|SHA256|SHA512):)?[0-9A-Fa-f]{1,128}", "a sum")},
    ),
    Door("GET", "/datastore/image/info", _IMAGE),
    Door("PUT", "/datastore/image/info", _IMAGE, {"info": check_metadata}),
    Door("PUT", "/datastore/label", {**_IMAGE, "tag": or_nothing(check_tag)}, _KNOWN, "label"),
    Door("DELETE", "/datastore/label", {"id": check_name, "tag": check_tag}),
    Door("HEAD", "/datastore/label", {**_IMAGE, "tag": check_tag}),
    Door("GET", "/datastore/label", _LABEL),
    Door("GET", "/datastore/label/info", _LABEL),
    Door("PUT", "/datastore/label/info", _LABEL, {"info": check_metadata}),
    Door("PUT", "/datastore/updatelabelinfo", _LABEL, _KNOWN),
    Door(
        "PUT",
        "/session/",
        {"uncompress": _no_archive, "expiry": text_like(r"[0-9]{1,5}", "seconds")},
        {"client_id": check_ignored},
        "files",
    ),
    Door("GET", "/session/{session}", {"update_ts": check_flag, "image": check_flag}),
    Door("DELETE", "/session/{session}"),
)
