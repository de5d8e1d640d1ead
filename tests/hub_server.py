"""A small Hub: stores and serves over HTTP what `huggingface_hub` sends, so that pushing and loading can be tested.

It keeps whole commits in memory, checks the size and SHA-256 of large files, wants a token for writing and answers
missing repositories and files as the real one does. Use:

    with HubServer() as hub:
        run(..., env={**os.environ, **hub.environment(home)})
"""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


TOKEN = "hf_local_test_token"
LARGE_SUFFIXES = (".safetensors", ".bin", ".parquet", ".png", ".jpg")


@dataclass
class Repository:
    """Commits of one repository, oldest first."""

    kind: str
    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)  # settings of a Space

    def __post_init__(self):
        self.add_commit({})

    def add_commit(self, files: dict[str, bytes]) -> str:
        digest = hashlib.sha1(str(len(self.commits)).encode())
        for path in sorted(files):
            digest.update(path.encode() + files[path])
        self.commits.append((digest.hexdigest(), files))
        return digest.hexdigest()

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit called `revision`; `main` is the newest."""
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


class HubServer:
    """Serves on a free port of this machine while its `with` block runs.

    Attributes:
        repositories: By `owner/name`.
        requests: Method and path of everything that was asked, in order.
    """

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.large_files: dict[str, bytes] = {}
        self.offered: set[str] = set()  # large files that somebody with a token may now send
        self.requests: list[tuple[str, str]] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def environment(self, home: Path) -> dict[str, str]:
        """What a process must have in its environment, before it imports anything, to take this server for the Hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def files(self, repo_id: str) -> dict[str, bytes]:
        """Files of the newest commit."""
        return self.repositories[repo_id].commits[-1][1]

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._answer()

    def do_HEAD(self):
        self._answer()

    def do_POST(self):
        self._answer()

    def do_PUT(self):
        self._answer()

    def log_message(self, *_):
        """The requests are kept in `HubServer.requests`; the terminal belongs to pytest."""

    def _answer(self):
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append((self.command, path))
        if self.command == "POST" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._error(401, "Unauthorized", "Writing needs a token.")
        parts = path.strip("/").split("/")
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if parts[0] == "upload":
            return self._receive_large_file(parts[1], body)
        if parts[0] == "api":
            return self._api(parts[1], parts[2:], body)
        if parts[0] in ("datasets", "spaces"):
            parts = parts[1:]
        if ".git/info/lfs/objects/batch" in path:
            return self._offer_upload(json.loads(body))
        if len(parts) > 3 and parts[2] == "resolve":
            return self._serve_file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return self._error(404, "EntryNotFound", f"Nothing at {path}")

    def _create(self, wish: dict):
        repo_id = f"{wish.get('organization') or 'me'}/{wish['name']}"
        kind = wish.get("type") or "model"
        if repo_id in self.hub.repositories:
            return self._json({"error": "You already created this model repo", "url": self._repo_url(repo_id)}, 409)
        self.hub.repositories[repo_id] = Repository(kind, bool(wish.get("private")))
        return self._json({"url": self._repo_url(repo_id)})

    def _repo_url(self, repo_id: str) -> str:
        kind = self.hub.repositories[repo_id].kind
        return f"{self.hub.url}/{'' if kind == 'model' else kind + 's/'}{repo_id}"

    def _api(self, kinds: str, parts: list[str], body: bytes):
        repo_id, action = "/".join(parts[:2]), parts[2:]
        repository = self.hub.repositories.get(repo_id)
        if repository is None or f"{repository.kind}s" != kinds:
            return self._error(404, "RepoNotFound", "Repository not found")
        if action[:1] == ["preupload"]:
            return self._plan_upload(json.loads(body))
        if action[:1] == ["commit"]:
            return self._commit(repo_id, repository, body)
        if action == ["variables"] and kinds == "spaces":
            wish = json.loads(body)
            repository.variables[wish["key"]] = wish["value"]
            return self._json({key: {"value": value} for key, value in repository.variables.items()})
        commit = repository.at(action[1] if len(action) > 1 else "main")
        if commit is None:
            return self._error(404, "RevisionNotFound", "Invalid revision")
        sha, files = commit
        if action[:1] == ["tree"]:
            return self._json([{"type": "file", "path": name, **_identity(name, files[name])} for name in files])
        siblings = [{"rfilename": name} for name in files]
        return self._json({"id": repo_id, "sha": sha, "private": repository.private, "siblings": siblings})

    def _plan_upload(self, wish: dict):
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE_SUFFIXES) else "regular",
                "shouldIgnore": False,
            }
            for file in wish["files"]
        ]
        return self._json({"files": modes})

    def _offer_upload(self, wish: dict):
        objects = []
        for wanted in wish["objects"]:
            self.hub.offered.add(wanted["oid"])
            upload = {"href": f"{self.hub.url}/upload/{wanted['oid']}", "header": {}}
            objects.append({"oid": wanted["oid"], "size": wanted["size"], "actions": {"upload": upload}})
        return self._json({"transfer": "basic", "objects": objects})

    def _receive_large_file(self, oid: str, body: bytes):
        if oid not in self.hub.offered or hashlib.sha256(body).hexdigest() != oid:
            return self._error(400, "BadRequest", "The file is not the one announced.")
        self.hub.large_files[oid] = body
        return self._json({})

    def _commit(self, repo_id: str, repository: Repository, body: bytes):
        files = dict(repository.commits[-1][1])
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                if len(self.hub.large_files.get(value["oid"], b"")) != value["size"]:
                    return self._error(400, "BadRequest", f"{value['path']} was never uploaded.")
                files[value["path"]] = self.hub.large_files[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        sha = repository.add_commit(files)
        return self._json({"commitOid": sha, "commitUrl": f"{self._repo_url(repo_id)}/commit/{sha}", "hookOutput": ""})

    def _serve_file(self, repo_id: str, revision: str, name: str):
        repository = self.hub.repositories.get(repo_id)
        if repository is None:
            return self._error(404, "RepoNotFound", "Repository not found")
        commit = repository.at(revision)
        if commit is None:
            return self._error(404, "RevisionNotFound", "Invalid revision")
        sha, files = commit
        if name not in files:
            return self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": sha})
        headers = {"ETag": f'"{_identity(name, files[name])["oid"]}"', "X-Repo-Commit": sha}
        return self._send(200, files[name], "application/octet-stream", headers)

    def _json(self, value, status: int = 200):
        return self._send(status, json.dumps(value).encode(), "application/json")

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None):
        headers = {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})}
        return self._send(status, json.dumps({"error": message}).encode(), "application/json", headers)

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _identity(name: str, content: bytes) -> dict:
    """What git, or LFS for large files, calls this content."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    if not name.endswith(LARGE_SUFFIXES):
        return {"oid": blob, "size": len(content)}
    sha256 = hashlib.sha256(content).hexdigest()
    return {"oid": sha256, "size": len(content), "lfs": {"oid": sha256, "size": len(content), "pointerSize": 130}}
