"""What a launcher may use: how many jobs at once, and the machine that each of them gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.errors import InputError
from scripts.switches import is_given, is_on

__all__ = ["LAUNCHERS", "LaunchOptions"]

LAUNCHERS = ("local", "slurm")
_SMALLEST = {"jobs": 1, "gpus": 0, "cpus": 1, "minutes": 1}
_OF_SLURM = ("memory_gb", "partition", "account", "constraint", "setup")
_SLURM = {"gpus": 1, "cpus": 8, "memory_gb": 32.0, "minutes": 720}


@dataclass(frozen=True)
class LaunchOptions:
    """How many jobs run at once and what each may use; None leaves it to the launcher.

    Attributes:
        jobs: jobs at once. Local: one per GPU, or 1 without one; Slurm: as many as the cluster lets.
        gpus: GPUs of each job. Local: 1 if there is one; Slurm: 1.
        cpus: cores of each job. Local: the cores divided by ``jobs``; Slurm: 8.
        memory_gb: memory of each job [GB]. Local: not limited; Slurm: 32.
        minutes: time limit of each job [min]; a longer one continues from its checkpoint in a new turn, 5 times at
            most on this machine and 20 on Slurm. Local: none; Slurm: 720.
        partition: of Slurm.
        account: of Slurm.
        constraint: features that a node must have, as Slurm's ``--constraint``.
        setup: shell lines before each Slurm job, such as ``module load cuda``; one text or several.
        wait: whether to watch Slurm jobs to their end instead of returning at once.

    Raises:
        InputError: for a value that cannot be meant.
    """

    jobs: int | None = None
    gpus: int | None = None
    cpus: int | None = None
    memory_gb: float | None = None
    minutes: int | None = None
    partition: str | None = None
    account: str | None = None
    constraint: str | None = None
    setup: str | Sequence[str] = ()
    wait: bool | str = False

    def __post_init__(self) -> None:
        for name, smallest in _SMALLEST.items():
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value == int(value) and value >= smallest):
                raise InputError(f"{name} is {value!r}: give a whole number, {smallest} or more, or leave it out")
        if self.memory_gb is not None and not (_is_number(self.memory_gb) and self.memory_gb > 0):
            raise InputError(f"memory_gb is {self.memory_gb!r}: give a number of gigabytes, such as 32")
        for name in ("partition", "account", "constraint"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, (bool, tuple, list)) or not str(value).strip()):
                raise InputError(f"{name} is {value!r}: give one name, as your cluster calls it, or leave it out")
        object.__setattr__(self, "wait", is_on(self.wait, "wait"))
        object.__setattr__(self, "setup", self._lines())

    @classmethod
    def chosen(cls, given: Mapping[str, Any]) -> LaunchOptions:
        """Return the options among what a user typed; those of no value (None) are left out.

        Raises:
            InputError: an option that there is not, or one that cannot be meant.
        """
        unknown = [name for name in given if name not in cls.__dataclass_fields__]
        if unknown:
            raise InputError(f"no option --{unknown[0]}: there are --{', --'.join(cls.__dataclass_fields__)}")
        return cls(**{name: value for name, value in given.items() if is_given(value)})

    def refuse_unread(self, launcher: str | None) -> None:
        """Refuse options that nobody reads with this launcher, or without one.

        Raises:
            InputError: for the first of them, or a launcher that there is not.
        """
        if launcher and launcher not in LAUNCHERS:
            raise InputError(f"launcher is {launcher!r}: choose one of {', '.join(LAUNCHERS)}")
        for name in _OF_SLURM if launcher != "slurm" else ():
            if getattr(self, name):
                raise InputError(f"--{name} is for --launcher slurm: leave it out on this machine")
        if self.cpus and not launcher:
            raise InputError("--cpus is of a launcher's jobs: add --launcher local, or leave it out")

    def on_slurm(self) -> dict[str, Any]:
        """Return what submitit's AutoExecutor is told for Slurm."""
        chosen = {
            name: default if getattr(self, name) is None else getattr(self, name) for name, default in _SLURM.items()
        }
        cpus, gpus = int(chosen["cpus"]), int(chosen["gpus"])
        threads = max(1, cpus // max(1, gpus))
        told = {
            "timeout_min": int(chosen["minutes"]),
            "mem_gb": float(chosen["memory_gb"]),
            "cpus_per_task": cpus,
            "gpus_per_node": gpus or None,
            "slurm_array_parallelism": None if self.jobs is None else int(self.jobs),
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "slurm_constraint": self.constraint,
            "slurm_setup": [*self.setup, f"export OMP_NUM_THREADS={threads}"],
            # srun of Slurm 22.05 and later does not take the cores over from sbatch
            "slurm_srun_args": [f"--cpus-per-task={cpus}"],
            "slurm_additional_parameters": {"requeue": True},
        }
        return {name: str(value) if name in _NAMES else value for name, value in told.items() if value is not None}

    def _lines(self) -> tuple[str, ...]:
        lines = [self.setup] if isinstance(self.setup, str) else self.setup
        if not isinstance(lines, Sequence) or not all(isinstance(line, str) for line in lines):
            raise InputError(f"setup is {self.setup!r}: give shell lines, such as 'module load cuda'")
        return tuple(line for line in lines if line.strip())


_NAMES = ("slurm_partition", "slurm_account", "slurm_constraint")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value and abs(value) < 1e9
