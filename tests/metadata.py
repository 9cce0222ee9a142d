"""A cloud's metadata service, on loopback: what it answers by method and path, 404 elsewhere, and what it was asked."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class MetadataService:
    """Leave the context to end it. answers: (method, path) -> body; may change at any time. asked: with the headers."""

    def __init__(self, answers: dict[tuple[str, str], str] | None = None, port: int = 0):
        self.answers, self.asked = dict(answers or {}), []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                service.asked.append((self.command, self.path, dict(self.headers)))
                body = service.answers.get((self.command, self.path))
                self.send_response(404 if body is None else 200)
                self.end_headers()
                self.wfile.write((body or "").encode())

            do_GET = do_PUT = answer

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> MetadataService:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
