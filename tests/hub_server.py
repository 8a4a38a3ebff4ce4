"""A Hub on the loopback interface: what the installed huggingface_hub client asks of the real one, in memory.

    with HubServer() as hub:
        run_program(..., env=hub.environment(home, WRITER))
        hub.files("ada/model")["config.json"]

Repositories of models and data sets, git and LFS uploads, branches, private repositories, tokens that may
write, only read, or are refused. `faults` makes a request fail: ("PUT", "/lfs/") -> 500, or CUT.
"""

import base64
import contextlib
import dataclasses
import hashlib
import json
import os
import re
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import yaml
from http_server import LoopbackServer

USER = "ada"
WRITER, READER = "hf_aTokenThatMayWrite", "hf_aTokenThatMayRead"
TOKENS = {WRITER: "write", READER: "read"}  # any other is refused
LFS_SUFFIXES = (".safetensors", ".parquet")
CUT = "cut"  # a fault that closes the connection in the middle of the request


@dataclasses.dataclass
class Repo:
    """A repository: each commit is a whole tree, path -> content."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = dataclasses.field(default_factory=dict)
    messages: list[str] = dataclasses.field(default_factory=list)
    branches: dict[str, str] = dataclasses.field(default_factory=dict)

    def commit(self, branch: str, tree: dict[str, bytes], message: str) -> str:
        oid = hashlib.sha1(f"{len(self.commits)} {branch} {message}".encode()).hexdigest()
        self.commits[oid] = tree
        self.branches[branch] = oid
        self.messages.append(message)
        return oid

    def resolve(self, revision: str) -> str | None:
        oid = self.branches.get(revision, revision)
        return oid if oid in self.commits else None


class HubServer(LoopbackServer):
    """The Hub; its state may be read and changed while it runs."""

    def __init__(self):
        super().__init__(type("Handler", (HubHandler,), {"hub": self}))
        self.repos: dict[tuple[str, str], Repo] = {}  # (models or datasets, USER/NAME)
        self.blobs: dict[str, bytes] = {}
        self.faults: dict[tuple[str, str], int | str] = {}
        # Told of each request as it comes, and again when the Hub has acted but not answered.
        self.watch: Callable[[str], None] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, home, token: str | None = None) -> dict[str, str]:
        """The environment of a process that has this Hub, an empty cache in `home`, and no other network."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        own = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",  # xet's storage is a protocol of its own; LFS is the Hub's other one
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        return {**kept, **own, **({"HF_TOKEN": token} if token else {})}

    def files(self, repo_id: str, revision: str = "main", kind: str = "models") -> dict[str, bytes]:
        repo = self.repos[kind, repo_id]
        return repo.commits[repo.resolve(revision)]


class HubHandler(BaseHTTPRequestHandler):
    """One request: `ROUTES` says which method answers it."""

    hub: HubServer
    protocol_version = "HTTP/1.1"

    def handle_request(self) -> None:
        self.path, _, query = self.path.partition("?")
        self.path = urllib.parse.unquote(self.path)
        self.query = urllib.parse.parse_qs(query)
        self.hub.requests.append(f"{self.command} {self.path}")
        self.tell("before")
        for (method, start), fault in self.hub.faults.items():
            if method == self.command and self.path.startswith(start):
                self.fail(fault)
                return
        self.body = self.read_body()
        for method, pattern, answer in ROUTES:
            match = re.fullmatch(pattern, self.path)
            if match and self.command in method.split():
                answer(self, **match.groupdict())
                return
        self.send_error_code(404, "EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def fail(self, fault: int | str) -> None:
        if fault == CUT:
            self.rfile.read(100)
            self.connection.close()
        else:
            self.read_body()
            self.send_json({"error": "told to fail"}, status=fault)

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def tell(self, when: str) -> None:
        if self.hub.watch:
            self.hub.watch(f"{when} {self.command} {self.path}")

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.tell("after")
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

    def send_json(self, value: object, status: int = 200) -> None:
        self.send(json.dumps(value).encode(), status, Content_Type="application/json")

    def send_error_code(self, status: int, code: str) -> None:
        self.send(b"{}", status, X_Error_Code=code, X_Error_Message=code)

    def log_message(self, *words) -> None:
        """Keep the tests' output to what the tests say."""

    def role(self) -> str | None:
        return TOKENS.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def may_write(self) -> bool:
        if self.role() == "write":
            return True
        self.send_json({"error": "this token may not write"}, status=403 if self.role() else 401)
        return False

    def repo(self, kind: str | None, repo_id: str) -> Repo | None:
        """The repository, or None after the answer of one who must not know whether there is one."""
        repo = self.hub.repos.get(((kind or "models").rstrip("/"), repo_id))
        if repo is None or (repo.private and not self.role()):
            self.send_error_code(404 if self.role() else 401, "RepoNotFound")
            return None
        return repo

    def whoami(self) -> None:
        if self.role():
            token = {"displayName": "test", "role": self.role()}
            self.send_json({"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": token}})
        else:
            self.send_json({"error": "Invalid user token."}, status=401)

    def create(self) -> None:
        if not self.may_write():
            return
        asked = json.loads(self.body)
        repo_id = f"{asked.get('organization') or USER}/{asked['name']}"
        kind = asked.get("type", "model") + "s"
        known = (kind, repo_id) in self.hub.repos
        if not known:
            private = asked.get("private") or asked.get("visibility") == "private"
            repo = self.hub.repos[kind, repo_id] = Repo(private=bool(private))
            repo.commit("main", {}, "initial commit")
        prefix = "" if kind == "models" else f"{kind}/"
        url = f"{self.hub.endpoint}/{prefix}{repo_id}"
        self.send_json({"url": url, "name": repo_id}, status=409 if known else 200)

    def validate_yaml(self) -> None:
        """Errors where the front matter is none; the real Hub checks its fields too."""
        parts = json.loads(self.body)["content"].split("---\n", 2)
        try:
            good = len(parts) == 3 and not parts[0] and isinstance(yaml.safe_load(parts[1]), dict)
        except yaml.YAMLError:
            good = False
        errors = [] if good else [{"message": "the front matter is not YAML"}]
        self.send_json({"errors": errors, "warnings": []}, status=200 if good else 400)

    def create_branch(self, kind: str, repo_id: str, branch: str) -> None:
        if self.may_write() and (repo := self.repo(kind, repo_id)):
            known = branch in repo.branches
            if not known:
                repo.branches[branch] = repo.branches["main"]
            self.send_json({}, status=409 if known else 200)

    def preupload(self, kind: str, repo_id: str, revision: str) -> None:
        if self.may_write() and self.repo(kind, repo_id):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(self.body)["files"]
            ]
            self.send_json({"files": files})

    def lfs_batch(self, kind: str | None, repo_id: str) -> None:
        if self.may_write() and self.repo(kind, repo_id):
            objects = []
            for item in json.loads(self.body)["objects"]:
                place = f"{self.hub.endpoint}/lfs/{item['oid']}"
                actions = {"upload": {"href": place}, "verify": {"href": f"{place}/verify"}}
                known = item["oid"] in self.hub.blobs
                objects.append({**item, **({} if known else {"actions": actions})})
            self.send_json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        good = hashlib.sha256(self.body).hexdigest() == oid
        if good:
            self.hub.blobs[oid] = self.body
        self.send_json({}, status=200 if good else 400)

    def lfs_verify(self, oid: str) -> None:
        good = len(self.hub.blobs.get(oid, b"")) == json.loads(self.body)["size"]
        self.send_json({}, status=200 if good else 404)

    def commit(self, kind: str, repo_id: str, revision: str) -> None:
        repo = self.repo(kind, repo_id) if self.may_write() else None
        if repo is None:
            return
        if revision not in repo.branches:
            self.send_error_code(404, "RevisionNotFound")
            return
        tree = dict(repo.commits[repo.branches[revision]])
        header, *operations = (json.loads(line) for line in self.body.splitlines())
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                tree[value["path"]] = self.hub.blobs[value["oid"]]
            else:
                tree.pop(value["path"])
        oid = repo.commit(revision, tree, header["value"]["summary"])
        self.send_json({"commitUrl": f"{self.hub.endpoint}/{repo_id}/commit/{oid}", "commitOid": oid})

    def info(self, kind: str, repo_id: str, revision: str | None = None) -> None:
        repo = self.repo(kind, repo_id)
        oid = repo and repo.resolve(revision or "main")
        if oid:
            siblings = [{"rfilename": path} for path in sorted(repo.commits[oid])]
            known = {"id": repo_id, "sha": oid, "private": repo.private, "siblings": siblings, "tags": []}
            self.send_json({**known, "downloads": 0, "likes": 0, "gated": False, "disabled": False})
        elif repo:
            self.send_error_code(404, "RevisionNotFound")

    def tree(self, kind: str, repo_id: str, revision: str, folder: str | None = None) -> None:
        repo = self.repo(kind, repo_id)
        oid = repo and repo.resolve(revision)
        found = entries(repo.commits[oid], folder or "", "recursive" in self.query) if oid else []
        if found or (oid and not folder):
            self.send_json(found)
        elif repo:
            self.send_error_code(404, "EntryNotFound" if oid else "RevisionNotFound")

    def paths_info(self, kind: str, repo_id: str, revision: str) -> None:
        repo = self.repo(kind, repo_id)
        oid = repo and repo.resolve(revision)
        if oid:
            asked = (
                urllib.parse.parse_qs(self.body.decode())["paths"]
                if self.body[:1] != b"{"
                else json.loads(self.body)["paths"]
            )
            tree = repo.commits[oid]
            self.send_json([entry(path, tree[path]) for path in asked if path in tree])
        elif repo:
            self.send_error_code(404, "RevisionNotFound")

    def resolve(self, kind: str | None, repo_id: str, revision: str, path: str) -> None:
        repo = self.repo(kind, repo_id)
        if repo is None:
            return
        oid = repo.resolve(revision)
        content = repo.commits[oid].get(path) if oid else None
        if content is None:
            self.send_error_code(404, "EntryNotFound" if oid else "RevisionNotFound")
        else:
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            self.send(content, X_Repo_Commit=oid, ETag=etag, Content_Type="application/octet-stream")


def entry(path: str, content: bytes) -> dict:
    """A file as the tree API describes it."""
    blob = b"blob %d\0" % len(content) + content
    described = {
        "type": "file",
        "path": path,
        "size": len(content),
        "oid": hashlib.sha1(blob).hexdigest(),
    }
    if path.endswith(LFS_SUFFIXES):
        sha256 = hashlib.sha256(content).hexdigest()
        described["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
    return described


def entries(tree: dict[str, bytes], folder: str, recursive: bool) -> list[dict]:
    """The files (and, unless recursive, folders) below a folder."""
    below = [path for path in sorted(tree) if path.startswith(folder and f"{folder}/")]
    files, folders = [], set()
    for path in below:
        rest = path.removeprefix(folder).lstrip("/")
        if "/" in rest:
            folders.add(f"{folder}/{rest.split('/')[0]}".lstrip("/"))
        if recursive or "/" not in rest:
            files.append(entry(path, tree[path]))
    return [
        {"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)
    ] + files


KIND = r"(?P<kind>models|datasets)"
REPO = r"(?P<repo_id>[^/]+/[^/]+?)"
REVISION = r"(?P<revision>[^/]+)"
ROUTES = (
    ("GET", "/api/whoami-v2", HubHandler.whoami),
    ("POST", "/api/repos/create", HubHandler.create),
    ("POST", "/api/validate-yaml", HubHandler.validate_yaml),
    ("POST", f"/api/{KIND}/{REPO}/branch/(?P<branch>.+)", HubHandler.create_branch),
    ("POST", f"/api/{KIND}/{REPO}/preupload/{REVISION}", HubHandler.preupload),
    ("POST", f"/(?P<kind>datasets/)?{REPO}.git/info/lfs/objects/batch", HubHandler.lfs_batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", HubHandler.lfs_put),
    ("POST", "/lfs/(?P<oid>[0-9a-f]{64})/verify", HubHandler.lfs_verify),
    ("POST", f"/api/{KIND}/{REPO}/commit/{REVISION}", HubHandler.commit),
    ("POST", f"/api/{KIND}/{REPO}/paths-info/{REVISION}", HubHandler.paths_info),
    ("GET", f"/api/{KIND}/{REPO}/tree/{REVISION}(/(?P<folder>.+))?", HubHandler.tree),
    ("GET", f"/api/{KIND}/{REPO}(/revision/{REVISION})?", HubHandler.info),
    ("GET HEAD", f"/(?P<kind>datasets/)?{REPO}/resolve/{REVISION}/(?P<path>.+)", HubHandler.resolve),
)
