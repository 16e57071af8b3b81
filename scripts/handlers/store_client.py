"""MLflow's client with errors for people: a locked, full, read-only, damaged or absent store is told in a line."""

from __future__ import annotations

import functools
from typing import Any

from scripts.errors import InputError

__all__ = ["StoreClient"]

# what SQLite, or a connection to a server, says -> what to do
_CURES = {
    "database is locked": "another program writes to it: end that, or wait",
    "database or disk is full": "make room there",
    "disk i/o error": "make room there, or check the disk",
    "no space left": "make room there",
    "readonly database": "change the rights of the file and of its folder, or give another --tracking_uri",
    "permission denied": "change the rights of the file and of its folder, or give another --tracking_uri",
    "unable to open database file": "change the rights of its folder, or give another --tracking_uri",
    "file is not a database": "move the file away, or give another --tracking_uri",
    "malformed": "it is damaged: move the file away, or give another --tracking_uri",
    "out-of-date database schema": "run `mlflow db upgrade` with its URI, or give another --tracking_uri",
    "can't locate revision": "a newer MLflow made it: install that, or give another --tracking_uri",
    "max retries exceeded": "no server answers there: start it, or give another --tracking_uri",
    "connection refused": "no server answers there: start it, or give another --tracking_uri",
}


class StoreClient:
    """An `mlflow.MlflowClient` whose methods raise an `InputError` where the store itself is at fault.

    Args:
        uri: of the store.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.client: Any = None

    def __getattr__(self, name: str) -> Any:
        """Return what the client has of that name."""
        if self.client is None:
            self.client = _told(_new_client, self.uri)(self.uri)
        found = getattr(self.client, name)
        return _told(found, self.uri) if callable(found) else found


def _new_client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def _told(call: Any, uri: str) -> Any:
    @functools.wraps(call)
    def wrapped(*given: Any, **named: Any) -> Any:
        try:
            return call(*given, **named)
        except Exception as error:
            said = str(error).lower()
            words = next((words for words in _CURES if words in said), None)
            if words is None:
                raise
            raise InputError(f"{uri}: the tracking store cannot be used ({words}): {_CURES[words]}") from error

    return wrapped
