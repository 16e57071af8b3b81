"""Volumes that are prepared once, and random patches of them as a function of (seed, step, slot) alone."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor, PersistentDataset
from monai.data.utils import pickle_hashing
from monai.transforms import Compose
from monai.utils import convert_to_tensor

from scripts.errors import InputError, find_input_error
from scripts.io.files import atomic_write
from scripts.parallel import Threads, run_all

__all__ = ["PatchDataset", "VolumeDataset"]

_PATCH = 4  # first word of the entropy, see scripts.data.regions
_VERSION = 3  # raised whenever a cached volume is made differently by the same transforms

_DAMAGE = (pickle.UnpicklingError, RuntimeError, EOFError, OSError)

logger = logging.getLogger(__name__)


class VolumeDataset(PersistentDataset):
    """MONAI's PersistentDataset whose cache survives a kill, notices changed files and is mapped, not read.

    What the transforms before the first random one make of an entry lies in ``cache_dir``, under a hash of the
    entry, of its files' sizes and times, and of these transforms.

    Args:
        data: entries; their strings and lists of strings may be paths.
        transform: a Compose.
        cache_dir: folder of the cache; None caches nothing.
    """

    def __init__(
        self, data: Sequence[Any], transform: Sequence[Callable[..., Any]] | Compose, cache_dir: str | Path | None
    ) -> None:
        super().__init__(
            data, transform, cache_dir, hash_func=_entry_hash, hash_transform=pickle_hashing, track_meta=True
        )

    def prepare(self, description: str) -> None:
        """Fill the cache, with a progress bar; what is wrong with any file is told here, before any training.

        Raises:
            InputError: what the transforms raise.
        """
        if self.cache_dir is None:
            return
        todo = [item for item in self.data if not self._cache_file(item).is_file()]
        run_all(todo, self._cachecheck, Threads(2), what=description, unit="volume", progress=True)

    def _cache_file(self, item: Any) -> Path:
        assert self.cache_dir is not None
        return Path(self.cache_dir) / f"{self.hash_func(item).decode()[:32]}{self.transform_hash[:16]}.pt"

    def _cachecheck(self, item_transformed: Any) -> Any:
        if self.cache_dir is None:
            return self._made(item_transformed)
        path = self._cache_file(item_transformed)
        if path.is_file():
            try:
                return torch.load(path, weights_only=True, mmap=True)
            except _DAMAGE:
                logger.warning("%s was damaged and is made again", path)
        made = _plain(convert_to_tensor(self._made(item_transformed), convert_numeric=False, track_meta=True))
        atomic_write(path, lambda part: torch.save(made, part))
        try:
            return torch.load(path, weights_only=True, mmap=True)
        except _DAMAGE as error:
            raise InputError(f"{path} cannot be read back: check that disk, or give another --cache_dir") from error

    def _made(self, item: Any) -> Any:
        try:
            return self._pre_transform(deepcopy(item))
        except RuntimeError as error:
            # monai wraps whatever a transform raises
            cause = find_input_error(error)
            if cause is None:
                raise
            raise cause from None


class PatchDataset(VolumeDataset):
    """An endless stream of random patches; item ``step * batch_size + slot`` is always the same patch.

    Each pass over the entries takes them in a new random order. All draws of the random transforms of an item
    follow from (seed, item): a resumed run sees what the uninterrupted one would have, whatever the number
    of workers or processes.

    Args:
        data: entries.
        transform: a Compose; its random transforms make the patch.
        cache_dir: see `VolumeDataset`.
        seed: of every draw.
    """

    def __init__(
        self,
        data: Sequence[Any],
        transform: Sequence[Callable[..., Any]] | Compose,
        cache_dir: str | Path | None,
        seed: int = 0,
    ) -> None:
        super().__init__(data, transform, cache_dir)
        self.seed = seed

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, (int, np.integer)):
            return super().__getitem__(index)
        turn, place = divmod(int(index), len(self.data))
        order = np.random.default_rng([_PATCH, self.seed, turn]).permutation(len(self.data))
        draw = np.random.default_rng([_PATCH, self.seed, turn, place + 1])
        self.transform.set_random_state(seed=int(draw.integers(2**31)))
        return self._transform(int(order[place]))


def _plain(value: Any) -> Any:
    """Return an entry whose volumes forget what was applied to them, and whose meta data are plain values.

    Neither records of what was applied nor, in early releases of Python 3.11, enumerations are read back by torch.
    """
    if isinstance(value, MetaTensor):
        value.applied_operations = []
        value.meta = {str(key): str(x) if isinstance(x, Enum) else x for key, x in value.meta.items()}
        return value
    if isinstance(value, Mapping):
        return {key: _plain(x) for key, x in value.items()}
    return [_plain(x) for x in value] if isinstance(value, (list, tuple)) else value


def _entry_hash(item: Any) -> bytes:
    """Return a hash of an entry and of the size and time of every file that it names."""

    def stamp(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(k): stamp(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [stamp(v) for v in value]
        path = Path(value) if isinstance(value, (str, Path)) else None
        if path is not None and path.is_file():
            found = path.stat()
            return [str(path.resolve()), found.st_size, found.st_mtime_ns]
        return str(value)

    return hashlib.sha256(json.dumps([_VERSION, stamp(item)], sort_keys=True).encode()).hexdigest().encode()
