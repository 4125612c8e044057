"""A schema registry over HTTP: the part of Confluent's REST API that serializers and deserializers use.

It remembers what it was asked, wants the credentials that it was made with, and refuses what a real one refuses. It can
be made to fail, and to go away and come back on the same port.
"""

import base64
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.certificates import Certificates

__all__ = ["SchemaRegistry", "schema_registry"]

Answer = tuple[int, dict[str, Any]]
MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"


class SchemaRegistry:
    """Made by `schema_registry`."""

    def __init__(self, credentials: str | None, certificates: Certificates | None) -> None:
        self.asked: list[str] = []  # paths with their queries, of GETs
        self.failing: int | None = None  # answers everything with this status
        self._credentials = credentials
        self._certificates = certificates
        self._schemas: list[dict[str, Any]] = []  # its id is its place, from 1 on
        self._subjects: dict[str, list[int]] = {}
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"{'http' if self._certificates is None else 'https'}://127.0.0.1:{self._port}"

    def start(self) -> None:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append(self.path)
                self._answer(registry.get)

            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == MEDIA_TYPE
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(lambda path, query: registry.post(path, body))

            def _answer(self, handle: Callable[[str, dict[str, list[str]]], Answer]) -> None:
                path = urlsplit(self.path)
                if registry.failing is not None:
                    status, content = registry.failing, {"error_code": registry.failing * 100, "message": "failing"}
                elif not registry.accepts(self.headers["Authorization"]):
                    status, content = 401, {"error_code": 40101, "message": "Unauthorized"}
                else:
                    status, content = handle(path.path, parse_qs(path.query))
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", MEDIA_TYPE)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        if self._certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificates.certificate, self._certificates.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Goes away; `start` brings it back where it was."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def accepts(self, authorization: str | None) -> bool:
        if self._credentials is None:
            return True
        return authorization == f"Basic {base64.b64encode(self._credentials.encode()).decode()}"

    def get(self, path: str, query: dict[str, list[str]]) -> Answer:
        if match := re.fullmatch(r"/schemas/ids/(\d+)", path):
            number = int(match[1])
            if not 0 < number <= len(self._schemas):
                return 404, {"error_code": 40403, "message": f"Schema {number} not found"}
            return self._shown(number, query)
        if match := re.fullmatch(r"/subjects/([^/]+)/versions/(\d+)", path):
            subject, version = unquote(match[1]), int(match[2])
            numbers = self._subjects.get(subject, [])
            if not 0 < version <= len(numbers):
                return 404, {"error_code": 40402, "message": "Version not found."}
            number = numbers[version - 1]
            status, content = self._shown(number, query)
            return status, {**content, "subject": subject, "version": version, "id": number}
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _shown(self, number: int, query: dict[str, list[str]]) -> Answer:
        schema = self._schemas[number - 1]
        if schema.get("schemaType") == "PROTOBUF" and query.get("format") != ["serialized"]:
            return 422, {"error_code": 42200, "message": "this registry has Protobuf only in the form `serialized`"}
        return 200, dict(schema)

    def post(self, path: str, body: dict[str, Any]) -> Answer:
        match = re.fullmatch(r"/subjects/([^/]+)(/versions)?", path)
        if match is None:
            return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}
        schema = {name: body[name] for name in ("schema", "schemaType", "references") if body.get(name)}
        numbers = self._subjects.setdefault(unquote(match[1]), [])
        if match[2]:
            if schema not in self._schemas:
                self._schemas.append(schema)
            if (number := self._schemas.index(schema) + 1) not in numbers:
                numbers.append(number)
        found = [number for number in numbers if self._schemas[number - 1] == schema]
        if not found:
            return 404, {"error_code": 40403, "message": "Schema not found"}
        version = numbers.index(found[0]) + 1
        return 200, {"id": found[0], "subject": unquote(match[1]), "version": version, **schema}


@contextmanager
def schema_registry(
    credentials: str | None = None, certificates: Certificates | None = None
) -> Iterator[SchemaRegistry]:
    """One that runs. `credentials` are `user:password`; without them everybody is served."""
    registry = SchemaRegistry(credentials, certificates)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()
