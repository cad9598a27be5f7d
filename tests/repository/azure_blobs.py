"""Azure's blob service as far as reading needs it: containers in memory, listed and fetched over
its REST API. There is no emulator of it that pip installs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

Blobs = dict[str, bytes]  # by container/name


@contextmanager
def azure_blobs(account: str, blobs: Blobs) -> Iterator[str]:
    """Serves `blobs`, which may change meanwhile; gives a connection string."""

    class Handler(_Handler):
        served = blobs

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}/{account}"
    try:
        yield f"AccountName={account};AccountKey=a2V5;BlobEndpoint={endpoint};"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Blobs

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        _, _, container, *rest = unquote(url.path).split("/")
        name = "/".join(rest)
        if query.get("comp") == "list":
            self._list(container, query)
        elif f"{container}/{name}" in self.served:
            self._blob(self.served[f"{container}/{name}"])
        else:
            self._answer(404, b"", {"x-ms-error-code": "BlobNotFound"})

    do_HEAD = do_GET

    def _list(self, container: str, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        entries: dict[str, str] = {}
        for path, data in sorted(self.served.items()):
            where, _, name = path.partition("/")
            if where != container or not name.startswith(prefix):
                continue
            folder, found, _ = (
                name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            )
            if found:
                folder = escape(f"{prefix}{folder}/")
                entries[folder] = f"<BlobPrefix><Name>{folder}</Name></BlobPrefix>"
            else:
                entries[name] = _entry(name, data)
        listed = "".join(entries.values())
        body = (
            f'<?xml version="1.0"?><EnumerationResults ContainerName="{container}">'
            f"<Blobs>{listed}</Blobs><NextMarker/></EnumerationResults>"
        )
        self._answer(200, body.encode(), {"Content-Type": "application/xml"})

    def _blob(self, data: bytes) -> None:
        headers = {"ETag": _tag(data), "Last-Modified": formatdate(usegmt=True)}
        headers |= {"x-ms-blob-type": "BlockBlob", "Content-Type": "application/octet-stream"}
        wanted = self.headers.get("x-ms-range") or self.headers.get("Range")
        if not wanted or not data:
            self._answer(200, data, headers)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last or len(data)) + 1]
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        self._answer(206, part, headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _tag(data: bytes) -> str:
    return f'"{md5(data).hexdigest()}"'


def _entry(name: str, data: bytes) -> str:
    return (
        f"<Blob><Name>{escape(name)}</Name><Properties>"
        f"<Last-Modified>{formatdate(usegmt=True)}</Last-Modified><Etag>{escape(_tag(data))}</Etag>"
        f"<Content-Length>{len(data)}</Content-Length><BlobType>BlockBlob</BlobType>"
        "</Properties></Blob>"
    )
