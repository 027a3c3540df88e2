"""What stands before every request: host names, body sizes, security headers.

Plain ASGI, so streams pass freely.
"""

import ipaddress
from collections.abc import Iterable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "media-src 'self' blob:; connect-src 'self'; font-src 'self'; frame-src 'self'; form-action 'self'; "
        "base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), usb=()",
}

# For a document that was made elsewhere (a model's report): it may colour itself and show the pictures that
# it carries, runs nothing, asks for nothing, and is shown inside our own page.
DOCUMENT_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'self'; sandbox"
    ),
    "x-frame-options": "SAMEORIGIN",
}


_UNKNOWN_HOST = (
    "This host name is not one that Linewatch was told it has: ask by its address, or name it in "
    "web.allowed_hosts of the config file."
)


class SecurityHeaders:
    """Adds HEADERS to every answer that doesn't bring its own, and `no-cache` where the answer doesn't say
    how long it may be kept.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-cache")
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class KnownHosts:
    """Refuses a Host header that names neither an address, nor localhost, nor a name from the config.

    A page of another site can make a browser ask *us* under that site's own name (DNS rebinding); it can't
    make the browser send an IP address as Host. Listening on loopback, only loopback addresses pass.
    """

    def __init__(self, app: ASGIApp, *, loopback_only: bool, names: Iterable[str] = ()) -> None:
        self.app = app
        self.loopback_only = loopback_only
        self.names = {name.lower() for name in names} | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self.knows(Headers(scope=scope).get("host", "")):
            return await JSONResponse({"detail": _UNKNOWN_HOST}, 421)(scope, receive, send)
        await self.app(scope, receive, send)

    def knows(self, host: str) -> bool:
        """Whether this Host header may ask; the port does not matter."""
        name = host.rsplit("]", 1)[0].lstrip("[") if host.startswith("[") else host.rsplit(":", 1)[0]
        if name.lower() in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.loopback_only


class SameOrigin:
    """Refuses changes that another site's page asks a browser for (CSRF).

    Programs send no Origin and pass.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            theirs = origin is not None and origin.partition("://")[2] != headers.get("host")
            if theirs or headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
                refusal = JSONResponse({"detail": "Changes are taken from Linewatch's own page only."}, 403)
                return await refusal(scope, receive, send)
        await self.app(scope, receive, send)


class BodyLimit:
    """Answers 413 to a body above `max_bytes`, declared or not, before it is in memory; `larger` are paths
    that take more."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, larger: Mapping[str, int]) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        most = self.larger.get(scope["path"], self.max_bytes)
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdigit() or int(declared) > most:
            return await JSONResponse({"detail": _too_large(most)}, 413)(scope, receive, send)
        await self.app(scope, self._counted(receive, most), send)

    def _counted(self, receive: Receive, most: int) -> Receive:
        seen = 0

        async def receive_counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise HTTPException(413, _too_large(most))
            return message

        return receive_counted


def _too_large(most: int) -> str:
    return f"A request body may have {most} bytes at most."
