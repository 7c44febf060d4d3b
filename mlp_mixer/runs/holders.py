"""The processes that hold workdirs, and how one is told from another."""

import datetime
import os
import socket
import threading
from pathlib import Path
from typing import Any

FILE = "lock"  # in a workdir

# The workdirs in which runs of this process are under way, and since when. The system's locks keep
# only other processes out, and are gone when any handle of the file is closed.
held_here: dict[str, str] = {}
changing = threading.Lock()  # of held_here


def this_process() -> str:
    """Returns who this process is, for a person to read."""
    now = datetime.datetime.now().isoformat(" ", "seconds")
    return f"process {os.getpid()} on {socket.gethostname()} since {now}"


def identity() -> list[Any] | None:
    """Returns what tells this process from any other, on any machine; None if that is not known."""
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return [machine, os.readlink("/proc/self/ns/pid"), os.getpid(), _started(os.getpid())]
    except OSError:
        return None


def is_dead(process: list[Any] | None) -> bool:
    """Returns whether a process, in the words of `identity`, ran on this machine and has ended."""
    here = identity()
    if process is None or here is None or process[:2] != here[:2]:
        return False
    try:
        return _started(process[2]) != process[3]
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False


def _started(pid: int) -> int:
    """Returns when a process was started, in clock ticks since the machine was booted."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    state, started = after_name.split()[0], after_name.split()[19]
    if state in "ZX":
        raise FileNotFoundError  # it has ended, and its parent has not asked how
    return int(started)
