"""A Slurm of one node on this machine, for as long as a command lasts: ``python -m tests.slurm.one_node COMMAND ...``.

Needs root, and of Debian the packages slurmctld, slurmd, slurm-client and munge; asks nothing of systemd, cgroups or
/etc. All of it lies in a temporary folder, and ends with the command.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["OneNode", "missing", "one_node"]

LIMIT = 60.0  # seconds to begin or to end, which only what hangs reaches
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "setpriv")
CONF = """\
ClusterName=onenode
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
# a requeued job waits until its old credential has expired, by default 120 seconds
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
JobRequeue=1
KillWait={kill_wait}
OverTimeLimit=0
SchedulerParameters=sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} Gres=gpu:{gpus}
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Return what this machine lacks for it, empty if nothing."""
    if os.geteuid() != 0:
        return "root"
    return ", ".join(name for name in PROGRAMS if shutil.which(name, path=_path()) is None)


@contextmanager
def one_node(*, cores: int = 4, gpus: int = 2, kill_wait: int = 1) -> Iterator[OneNode]:
    """Run a Slurm of one node within this context.

    Args:
        cores: that it deals out, however many there are.
        gpus: that it deals out, though there are none.
        kill_wait: seconds from SIGTERM to SIGKILL.
    """
    node = OneNode(Path(tempfile.mkdtemp(prefix="slurm-")), cores=cores, gpus=gpus, kill_wait=kill_wait)
    try:
        node.start()
        yield node
    finally:
        node.stop()


class OneNode:
    """The daemons, in the foreground: they end with this process, too.

    Attributes:
        environment: by which Slurm's commands find it; all that it runs has that, too.
    """

    def __init__(self, folder: Path, *, cores: int, gpus: int, kill_wait: int) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": _path()}
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.own: list[int] = []  # the daemons, and what they begin for themselves
        folder.chmod(0o711)  # munged wants its socket to be reached by all users
        control, node = _free_ports(2)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
        host = socket.gethostname().split(".")[0]
        told = {"cores": cores, "gpus": gpus, "kill_wait": kill_wait, "control": control, "node": node}
        (folder / "slurm.conf").write_text(CONF.format(folder=folder, host=host, memory=memory, **told))
        cards = [folder / f"gpu{number}" for number in range(gpus)]
        for card in cards:
            card.touch()
        (folder / "gres.conf").write_text("".join(f"Name=gpu File={card}\n" for card in cards))
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        (folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (folder / "munge.key").chmod(0o600)

    def start(self) -> None:
        """Begin the daemons, and wait until the node takes jobs."""
        files = {"key-file": "munge.key", "pid-file": "munge.pid", "log-file": "munge.log", "seed-file": "munge.seed"}
        where = [f"--{option}={self.folder / name}" for option, name in files.items()]
        self._begin("munged", "--foreground", f"--socket={self.folder / 'munge.socket'}", *where)
        self._wait((self.folder / "munge.socket").exists)
        self._begin("slurmctld", "-D", "-i")
        self._begin("slurmd", "-D")
        self._wait(lambda: self.ask("sinfo", "--noheader", "--format=%t") == "idle")
        self.own = self.processes()

    def stop(self) -> None:
        """Cancel all jobs, end all processes and remove all files."""
        try:
            if len(self.daemons) == 3 and self.ask("scancel", "--user=root") is not None:
                self._wait(lambda: self.ask("squeue", "--noheader") == "")
        finally:
            for daemon in reversed(self.daemons):
                daemon.terminate()
            for daemon in reversed(self.daemons):
                try:
                    daemon.wait(10)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
            for process in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            shutil.rmtree(self.folder)

    def ask(self, *command: str) -> str | None:
        """Return what a command of Slurm says, None if it fails."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    def processes(self) -> list[int]:
        """Return its processes and those of its jobs, found by the environment with which they began."""
        mark, found = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
            except OSError:
                continue  # it has ended
        return found

    def jobs(self) -> list[int]:
        """Return the processes of its jobs."""
        return [process for process in self.processes() if process not in self.own]

    def _begin(self, *command: str) -> None:
        with (self.folder / f"{command[0]}.out").open("wb") as stream:
            environment = {**os.environ, **self.environment}
            bound = ["setpriv", "--pdeathsig", "TERM", *command]
            self.daemons.append(subprocess.Popen(bound, env=environment, stdout=stream, stderr=stream))

    def _wait(self, until: Callable[[], bool]) -> None:
        """Wait for what none of the daemons tells.

        Raises:
            RuntimeError: one of them ended, or it takes too long; with the last lines that they said.
        """
        limit = time.monotonic() + LIMIT
        while not until():
            if time.monotonic() > limit or any(daemon.poll() is not None for daemon in self.daemons):
                said = [line for path in self.folder.glob("*.out") for line in path.read_text().splitlines()[-20:]]
                raise RuntimeError("\n".join(["Slurm does not answer:", *said]))
            time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def main(command: list[str]) -> int:
    """Run a command that finds a Slurm, and return its exit status."""
    lacks = missing()
    if lacks or not command:
        sys.stderr.write(f"error: this needs {lacks or 'a command, such as squeue'}\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and stop what was begun
    with one_node() as node:
        return subprocess.run(command, env={**os.environ, **node.environment}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
