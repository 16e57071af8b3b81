"""A new MLflow store is a copy of a ready empty one: its migrations take longer than a tiny training."""

from __future__ import annotations

import logging
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any


def make_ready_store(path: Path) -> Path:
    """Write an empty store, as MLflow itself makes it, to copy."""
    import sqlalchemy
    from mlflow.store.db import utils

    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    engine = sqlalchemy.create_engine(f"sqlite:///{part}")
    logging.disable(logging.INFO)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        utils._initialize_tables(engine)
    logging.disable(logging.NOTSET)
    engine.dispose()
    return part.rename(path)


def use_ready_store(path: Path) -> None:
    """From now on MLflow copies the store at ``path`` into every SQLite file without tables, in this process."""
    from mlflow.store.db import utils

    make = utils._initialize_tables

    def copy_or_make(engine: Any) -> None:
        place = engine.url.database if engine.dialect.name == "sqlite" else None
        if not place or (Path(place).exists() and Path(place).stat().st_size):
            make(engine)
            return
        with closing(sqlite3.connect(path)) as ready, closing(sqlite3.connect(place)) as new:
            ready.backup(new)

    utils._initialize_tables = copy_or_make
