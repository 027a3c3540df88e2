"""The other side of a webhook: a plain HTTP server of the standard library that behaves as the test says."""

import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "a secret of 24 characters"


class Peer:
    """`behave(event)` is called for each POST: a status, a (status, headers), or None to hang up. `taken` are
    the events answered 2xx, in order.
    """

    def __init__(self, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.behave: Callable[[dict[str, Any]], Any] = lambda event: 204
        self.taken: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.closing = threading.Event()
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                peer.serve(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler, bind_and_activate=False)
        self._server.daemon_threads = False
        self._server.block_on_close = True
        self._server.allow_reuse_address = True
        self._server.server_bind()
        self._server.server_activate()
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client may go away
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"{'http' if context is None else 'https'}://127.0.0.1:{self.port}/hook?line=1"

    def __enter__(self) -> "Peer":
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="webhook peer")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        request.timeout = 0.2
        request.connection.settimeout(0.5)
        body = request.rfile.read(int(request.headers["content-length"]))
        check_signature(dict(request.headers), body)
        event = json.loads(body)
        self.asked.append(event)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        answer = self.behave(event)
        if answer is None:
            request.close_connection = True
            return
        status, headers = answer if isinstance(answer, tuple) else (answer, {})
        if 200 <= status < 300:
            self.taken.append(event)
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        if status != 204:
            request.send_header("content-length", "2")
        request.end_headers()
        if status != 204:
            request.wfile.write(b"{}")

    def hang(self, event: dict[str, Any]) -> None:
        """A behaviour: no answer until the test is over."""
        self.closing.wait(30)


def check_signature(headers: dict[str, str], body: bytes) -> None:
    """As a receiver does it, after the Standard Webhooks specification."""
    named = {name.lower(): value for name, value in headers.items()}
    assert abs(time.time() - int(named["webhook-timestamp"])) < 60
    signed = f"{named['webhook-id']}.{named['webhook-timestamp']}.".encode() + body
    digest = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert hmac.compare_digest(named["webhook-signature"], f"v1,{digest}")
