"""A stand-in for the Hugging Face hub on this machine, for huggingface_hub's own client.

with serving() as hub:  # hub.environment are the variables of a process that uses it
    hub.tokens["alice's"] = User("alice")

It keeps repositories of models in memory, with commits, private and gated ones, tokens that may not
write, and files that are uploaded by Git LFS. There is no Xet, which the variables switch off.
"""

import base64
import contextlib
import dataclasses
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

LICENCES = {"apache-2.0", "mit", "other", "unknown"}  # of the many that the hub knows


@dataclasses.dataclass
class User:
    name: str
    may_write: bool = True


@dataclasses.dataclass
class Repository:
    private: bool = False
    gated: bool = False
    # By commit, oldest first, the files; and by name, the commits of branches and tags.
    commits: dict[str, dict[str, bytes]] = dataclasses.field(default_factory=dict)
    messages: list[str] = dataclasses.field(default_factory=list)
    refs: dict[str, str] = dataclasses.field(default_factory=dict)

    def commit(self, files: dict[str, bytes], message: str) -> str:
        """Adds files to the newest commit's."""
        named = f"{len(self.commits)}{message}{sorted(files)}"
        oid = hashlib.sha1(named.encode()).hexdigest()
        self.commits[oid] = self.files() | files
        self.messages.append(message)
        self.refs["main"] = oid
        return oid

    def find(self, revision: str) -> str | None:
        found = self.refs.get(revision, revision)
        return found if found in self.commits else None

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return self.commits.get(self.refs.get(revision, revision), {})


class Hub:
    """What the server has. `answers` are statuses for paths that contain a text."""

    def __init__(self):
        self.tokens: dict[str, User] = {}
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}  # of Git LFS
        self.answers: dict[str, int] = {}
        self.meanwhile: Callable[[], object] | None = None  # called before a commit is made
        self.requests: list[str] = []
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def environment(self, folder: Path) -> dict[str, str]:
        """The variables with which the hub is this one; its cache is in a folder."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(folder),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }

    def use(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        """Makes it the hub of this process, in which huggingface_hub has read its variables."""
        from huggingface_hub import constants

        template = f"{self.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for name, value in {
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_CACHE": str(folder / "hub"),
            "HF_TOKEN_PATH": str(folder / "token"),
            "HF_HUB_DISABLE_XET": True,
        }.items():
            patch.setattr(constants, name, value)
        patch.delenv("HF_TOKEN", raising=False)

    def add(self, name: str, files: dict[str, bytes], **kind) -> Repository:
        made = self.repositories[name] = Repository(**kind)
        made.commit(files, "initial commit")
        return made


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    routes = (
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate"),
        ("GET", r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", "info"),
        ("POST", r"/api/models/([^/]+/[^/]+)/preupload/(.+)", "preupload"),
        ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
        ("PUT", r"/lfs/(\w+)", "put"),
        ("POST", r"/api/models/([^/]+/[^/]+)/commit/(.+)", "commit"),
        ("GET", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "resolve"),
    )

    def handle_any(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                self.body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        for part, status in self.hub.answers.items():
            if part in path:
                return self.refuse(status, "", f"as the test says: {status}")
        method = "GET" if self.command == "HEAD" else self.command
        for verb, pattern, name in self.routes:
            if verb == method and (found := re.fullmatch(pattern, path)):
                return getattr(self, name)(*found.groups())
        self.refuse(404, "", f"the stand-in has no {self.command} {path}")

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def log_message(self, *args) -> None:
        pass

    @property
    def user(self) -> User | None:
        return self.hub.tokens.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def tell(self, found: object, status: int = 200, **headers: str) -> None:
        self.send(status, json.dumps(found).encode(), Content_Type="application/json", **headers)

    def refuse(self, status: int, code: str, text: str, **more: str) -> None:
        headers = {"X_Error_Message": text} | ({"X_Error_Code": code} if code else {}) | more
        self.tell({"error": text}, status, **headers)

    def readable(self, name: str) -> Repository | None:
        """The repository if this user may see it; else the refusal is sent."""
        if self.headers.get("Authorization") and not self.user:
            return self.refuse(401, "", "Invalid credentials in Authorization header")
        found, owner = self.hub.repositories.get(name), name.partition("/")[0]
        is_owner = self.user is not None and self.user.name == owner
        if found is None or (found.private and not is_owner):
            status = 404 if self.user else 401
            return self.refuse(status, "RepoNotFound", "Repository not found")
        return found

    def writable(self, owner: str) -> bool:
        if not self.user:
            self.refuse(401, "", "Invalid username or password.")
        elif not self.user.may_write or self.user.name != owner:
            self.refuse(403, "", f"You don't have the rights to write under {owner}")
        else:
            return True
        return False

    def create(self) -> None:
        asked = json.loads(self.body)
        owner, name = asked["organization"] or (self.user and self.user.name), asked["name"]
        if not self.writable(owner):
            return
        if f"{owner}/{name}" in self.hub.repositories:
            return self.refuse(409, "", "You already created this model repo")
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        files = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}
        self.hub.add(f"{owner}/{name}", files, private=private)
        self.tell({"url": f"{self.hub.url}/{owner}/{name}"})

    def validate(self) -> None:
        _, metadata, _ = json.loads(self.body)["content"].split("---\n", 2)
        licence = yaml.safe_load(metadata).get("license")
        if licence is None or licence in LICENCES:
            return self.tell({"errors": [], "warnings": []})
        self.tell({"errors": [{"message": f'"license" must be one of {LICENCES}'}]}, 400)

    def info(self, name: str, revision: str | None) -> None:
        found = self.readable(name)
        if found is None:
            return
        files = found.files(revision or "main")
        siblings = [{"rfilename": path, **_describe(content, path)}
                    for path, content in files.items()]  # fmt: skip
        self.tell({"id": name, "modelId": name, "sha": found.refs["main"], "siblings": siblings,
                   "private": found.private, "gated": found.gated, "tags": []})  # fmt: skip

    def preupload(self, name: str, revision: str) -> None:
        found = self.readable(name)
        if found is None or not self.writable(name.partition("/")[0]):
            return
        files = found.files(revision)
        self.tell({"files": [
            {"path": file["path"], "shouldIgnore": False,
             "uploadMode": "lfs" if _is_large(file["path"]) else "regular",
             "oid": _describe(files[file["path"]], file["path"])["blobId"]
             if file["path"] in files else None}
            for file in json.loads(self.body)["files"]
        ]})  # fmt: skip

    def batch(self, name: str) -> None:
        if not self.writable(name.partition("/")[0]):
            return
        objects = json.loads(self.body)["objects"]
        for one in objects:
            if one["oid"] not in self.hub.objects:
                one["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}
        self.tell({"transfer": "basic", "objects": objects})

    def put(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.objects[oid] = self.body
        self.send(200, b"")

    def commit(self, name: str, revision: str) -> None:
        found = self.readable(name)
        if found is None or not self.writable(name.partition("/")[0]):
            return
        if self.hub.meanwhile:
            self.hub.meanwhile()
        lines = [json.loads(line) for line in self.body.splitlines()]
        header, *rest = ((line["key"], line["value"]) for line in lines)
        if header[1].get("parentCommit") not in (None, found.refs[revision]):
            return self.refuse(412, "", "A commit has happened since. Please refresh and try again")
        files = {
            what["path"]: base64.b64decode(what["content"]) if key == "file" else
            self.hub.objects[what["oid"]] for key, what in rest
        }  # fmt: skip
        oid = found.commit(files, header[1]["summary"])
        self.tell({"success": True, "commitOid": oid, "hookOutput": "",
                   "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"})  # fmt: skip

    def resolve(self, name: str, revision: str, path: str) -> None:
        found = self.readable(name)
        if found is None:
            return
        if found.gated:
            return self.refuse(403, "GatedRepo", "Access to this model is restricted")
        if (commit := found.find(revision)) is None:
            return self.refuse(404, "RevisionNotFound", "Invalid rev id")
        if (content := found.commits[commit].get(path)) is None:
            return self.refuse(404, "EntryNotFound", "Entry not found", X_Repo_Commit=commit)
        about = _describe(content, path)
        tag = about["lfs"]["sha256"] if about["lfs"] else about["blobId"]
        self.send(200, content, ETag=f'"{tag}"', X_Repo_Commit=commit)


def _is_large(path: str) -> bool:
    return path.endswith(".safetensors")


def _describe(content: bytes, path: str) -> dict:
    """What the hub says of a file: Git's name of it, and SHA-256 if it is kept by Git LFS."""
    lfs = None
    if _is_large(path):
        sha256 = hashlib.sha256(content).hexdigest()
        lfs = {"sha256": sha256, "size": len(content), "pointerSize": 134}
        content, size = f"oid sha256:{sha256}\n".encode(), len(content)
    else:
        size = len(content)
    blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    return {"size": size, "blobId": blob, "lfs": lfs}


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """Runs the stand-in while it is entered."""
    hub = Hub()
    thread = threading.Thread(target=hub.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.http.shutdown()
        hub.http.server_close()
