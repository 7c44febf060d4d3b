"""Processes of tests, forked from one that has imported what they would import each.

To import JAX and this package takes longer than most of these processes run. So pytest starts
`python -m tests.forks ADDRESS`, which imports them when a test first asks for a process, starts
neither a thread nor a backend of JAX, and from then on forks a child for every request. XLA_FLAGS
are read when a child starts its backend, other variables when they are used; JAX_* variables are
read by the import, so they must be the server's, all but JAX_PLATFORMS. What a new interpreter
does, such as train.py begun by its user, is for a test with subprocess to show.
"""

import atexit
import contextlib
import gc
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parent.parent
ADDRESS = "MLP_MIXER_TESTS_FORKS"  # of the server's socket, for all processes of pytest
# Imports and tracing make many objects and few cycles: to look for these less often saves a tenth.
FEW_COLLECTIONS = (100_000, 50, 50)


# --- for tests ---


@contextlib.contextmanager
def serving() -> Iterator[None]:
    """Has a server, and tells its address to this process and its children."""
    with tempfile.TemporaryDirectory() as folder:
        address = os.environ[ADDRESS] = f"{folder}/socket"
        command = [sys.executable, "-m", "tests.forks", address]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as server:
            yield
            server.stdin.close()  # it ends
    del os.environ[ADDRESS]


class Fork:
    """A process that runs a program: what subprocess.Popen is, as far as tests use it.

    What it writes to stderr stands in what it writes to stdout, unless it is to be apart.
    """

    def __init__(
        self, program: str, *arguments: object, env: dict[str, str], stderr_apart: bool = False
    ):
        self.returncode: int | None = None
        self._files = [tempfile.TemporaryFile() for _ in range(1 + stderr_apart)]  # noqa: SIM115
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(os.environ[ADDRESS])
        out, err = self._files[0].fileno(), self._files[-1].fileno()
        socket.send_fds(self._socket, [b"f"], [out, err])
        request = {"program": program, "arguments": [str(x) for x in arguments], "env": env}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        self._answers = self._socket.makefile()
        self.pid: int = json.loads(self._answers.readline())

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return status

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has written to stdout, and to stderr, when it has ended."""
        self.wait(timeout)
        texts = [os.pread(x.fileno(), os.fstat(x.fileno()).st_size, 0) for x in self._files]
        return texts[0].decode(), b"".join(texts[1:]).decode()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        """The status that the server tells when the process has ended."""
        if self.returncode is None and select.select([self._socket], [], [], timeout)[0]:
            self.returncode = json.loads(self._answers.readline())
        return self.returncode


# --- the server ---


def _serve(address: str) -> None:
    """Forks a child for each connection until stdin ends, then ends those that are left."""
    children: dict[int, socket.socket] = {}
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        while True:
            ready, *_ = select.select([sys.stdin, woken, listener], [], [])
            if sys.stdin in ready:
                break
            if woken in ready:
                woken.recv(1000)
                _reap(children)
            if listener in ready:
                _import()
                client, _ = listener.accept()
                pid = _fork(client, [listener, woken, wake, *children.values()])
                client.sendall(b"%d\n" % pid)
                children[pid] = client
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _reap(children: dict[int, socket.socket]) -> None:
    """Tells the status of children that have ended."""
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with contextlib.suppress(OSError), children.pop(pid) as client:
            client.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _import() -> None:
    """Imports what runs use, and keeps the garbage collector from looking at it ever again."""
    if gc.get_freeze_count():
        return
    for module in ("mlp_mixer.cli.train", "mlp_mixer.training.loop"):
        importlib.import_module(module)
    if importlib.util.find_spec("gcsfs"):
        importlib.import_module("gcsfs")
    assert threading.active_count() == 1
    gc.freeze()
    gc.set_threshold(*FEW_COLLECTIONS)


def _fork(client: socket.socket, ours: list[socket.socket]) -> int:
    """A child that does what the client asks; returns its process id to the server alone."""
    _, (out, err), *_ = socket.recv_fds(client, 1, 2)
    with client.makefile() as lines:
        request = json.loads(lines.readline())
    pid = os.fork()
    if not pid:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for one in (client, *ours):
            one.close()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        _run(**request)
    os.close(out)
    os.close(err)
    return pid


def _run(program: str, arguments: list[str], env: dict[str, str]) -> NoReturn:
    """Runs a program as `python -c` does, and ends this process."""
    import jax

    from mlp_mixer.runtime import xla_flags

    status = 0
    try:
        changed = {k for k in {*env, *os.environ} if env.get(k) != os.environ.get(k)}
        assert not any(name.startswith("JAX_") for name in changed - {"JAX_PLATFORMS"}), changed
        os.environ.clear()
        os.environ.update(env)
        xla_flags.avoid_stale_products()  # as the import of mlp_mixer does
        jax.config.update("jax_platforms", env.get("JAX_PLATFORMS"))
        sys.argv = ["-c", *arguments]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(program, "<string>", "exec"), main.__dict__)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    # As at the end of an interpreter, without taking apart what was imported.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        _serve(sys.argv[1])
