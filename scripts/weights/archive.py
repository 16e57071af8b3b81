"""Whether a file of weights is whole, which torch does not ask: it reads a flipped bit as another number."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.errors import InputError
from scripts.pointers import pointer_of

__all__ = ["check_archive", "check_numbers"]


def check_archive(path: Path) -> None:
    """Check the checksums in a file of weights: the zip archive that torch writes has one for each tensor.

    A file of another kind, such as safetensors, has none.

    Raises:
        InputError: the file is damaged, or a pointer of Git LFS or git-annex to one that was not fetched.
    """
    try:
        pointer = pointer_of(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its rights, or copy it again") from error
    if pointer is not None:
        name, command = pointer
        raise InputError(f"{path} is a pointer of {name}, without the weights: type `{command}`, in its folder")
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError):
        bad = "its table of contents"
    if bad is not None:
        raise InputError(f"{path} is damaged (the checksum of {bad} is wrong): copy or download it again")


def check_numbers(path: Path, state: Any) -> None:
    """Check that tensors hold real, finite numbers.

    Args:
        path: the file that they were read from.
        state: tensors by name; anything else is passed over, also among them.

    Raises:
        InputError: naming a tensor that does not.
    """
    import torch  # here, since what lists weights does without

    for name, value in state.items() if isinstance(state, Mapping) else ():
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            continue
        if value.is_complex():
            raise InputError(f"{path}: {name} holds complex numbers: take weights of this network")
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise InputError(f"{path}: {name} holds NaN or Inf: its training failed, take other weights")
