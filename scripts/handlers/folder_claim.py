"""A folder that one training at a time writes to."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from pathlib import Path

from scripts.errors import InputError
from scripts.io.files import told_if_refused

__all__ = ["FolderClaim"]


class FolderClaim:
    """The right of this process to write to a folder; the system takes it back however the process ends.

    A file ``.claim`` in the folder, locked, tells others who has it. Processes that this one forks do not have it. File
    systems that know no locks grant it to everybody. Not filelock's locks: a DataLoader's processes would hold them on
    after a ``kill -9``, and nobody is told by whom they are held.

    Args:
        folder: made where missing.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".claim"
        self.file: int | None = None

    def take(self) -> None:
        """Take it, if this object does not have it already.

        Raises:
            InputError: another process has it.
        """
        while self.file is None:
            with told_if_refused(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                holder = os.read(file, 200).decode(errors="replace") or "another process"
                os.close(file)
                raise InputError(
                    f"{self.path.parent}: {holder} is training into it: wait for it, or choose another --ckpt_dir"
                ) from None
            except OSError:  # no locks there
                self.file = file
                return
            if self._is_there(file):
                os.ftruncate(file, 0)
                os.write(file, f"process {os.getpid()} of {socket.gethostname()}".encode())
                self.file = file
            else:
                os.close(file)  # given back meanwhile by another process

    def give_back(self) -> None:
        """Give it back."""
        if self.file is not None:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
            os.close(self.file)
            self.file = None

    def __del__(self) -> None:
        self.give_back()

    def _is_there(self, file: int) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file), self.path.stat())
        return False
