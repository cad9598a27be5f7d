"""A stand-in for a hub: a folder of models over HTTP, answered as its clients expect."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """GET and HEAD of /api/models/OWNER/NAME... and /OWNER/NAME/resolve/REVISION/FILE."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append((self.command, path, self.headers.get("Authorization")))
        name = path.removeprefix("/api/models")
        owner, model = name.split("/")[1:3]
        folder = self.server.root / owner / model
        if not folder.is_dir():
            self.refuse(401, "RepoNotFound", "Repository Not Found")
        elif self.server.gated and self.headers.get("Authorization") != "Bearer good":
            self.refuse(401, "GatedRepo", "Access to this model is restricted")
        elif path.startswith("/api/models"):
            self.tell(folder, f"{owner}/{model}", path)
        else:
            self.give(folder / path.split("/", 5)[5])

    def tell(self, folder, name, path):
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        names = [file.relative_to(folder).as_posix() for file in files]
        content = {
            "id": name, "sha": COMMIT, "private": False, "gated": False, "tags": [],
            "siblings": [{"rfilename": one} for one in names],
        }  # fmt: skip
        if "/tree/" in path:
            content = [
                {"type": "file", "path": one, "size": file.stat().st_size, "oid": digest(file)}
                for one, file in zip(names, files, strict=True)
            ]
        self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def give(self, file):
        if not file.is_file():
            self.refuse(404, "EntryNotFound", "Entry not found")
            return
        if self.server.stuck and file.as_posix().endswith(self.server.stuck):
            self.server.done.wait()
        headers = {"ETag": f'"{digest(file)}"', "X-Repo-Commit": COMMIT}
        self.send(200, file.read_bytes(), headers)

    def refuse(self, status, code, message):
        self.send(status, message.encode(), {"X-Error-Code": code, "X-Error-Message": message})

    def send(self, status, body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def digest(file):
    return hashlib.sha1(file.read_bytes()).hexdigest()


@contextmanager
def serve(root, *, gated=False, stuck=""):
    """The server; `asked` is what it was asked, `url` where it is. It never gives `stuck`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.root, server.gated, server.asked = root, gated, []
    server.stuck, server.done = stuck, threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.done.set()
        server.shutdown()
        thread.join()
        server.server_close()
