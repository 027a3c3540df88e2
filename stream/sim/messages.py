"""RTSP 1.0 requests and answers as text (RFC 2326). Pure; used by the server and by the remote control."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

MAX_HEAD_BYTES, MAX_BODY_BYTES = 16_384, 16_384
REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Request Entity Too Large",
    451: "Parameter Not Understood",
    454: "Session Not Found",
    455: "Method Not Valid in This State",
    461: "Unsupported Transport",
    503: "Service Unavailable",
}


class BadMessage(ValueError):
    """These bytes are no RTSP message; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """Header names are lower case; `path` is decoded, without slashes at the ends and without the track."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """`top` for rtsp://host:554/top/trackID=0. Raises BadMessage for an address that is none."""
        try:
            parts = [unquote(part) for part in urlsplit(self.url).path.split("/") if part]
        except ValueError as error:  # brackets that don't close
            raise BadMessage(f"no address: {self.url[:80]!r}") from error
        return "/".join(parts[:-1] if parts and parts[-1].lower().startswith("trackid=") else parts)


def parse_head(head: bytes) -> Request:
    """The request line and headers, up to the empty line. Raises BadMessage."""
    lines = head.decode("utf-8", "replace").rstrip("\r\n").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("RTSP/1."):
        raise BadMessage(f"not an RTSP request line of three words: {lines[0][:80]!r}")
    return Request(words[0].upper(), words[1], _headers(lines[1:]))


def parse_answer_head(head: bytes) -> tuple[int, list[tuple[str, str]]]:
    """Status and headers of an answer, repeated headers kept. Raises BadMessage."""
    lines = head.decode("utf-8", "replace").rstrip("\r\n").split("\r\n")
    words = lines[0].split(" ", 2)
    if len(words) < 2 or not words[0].startswith("RTSP/1.") or not words[1].isdigit():
        raise BadMessage(f"not an RTSP status line: {lines[0][:80]!r}")
    pairs = [line.partition(":") for line in lines[1:]]
    return int(words[1]), [(name.strip().lower(), value.strip()) for name, _, value in pairs]


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise BadMessage(f"a header without a colon: {line[:80]!r}")
        headers[name.strip().lower()] = value.strip()
    return headers


def body_length(headers: Mapping[str, str]) -> int:
    """Content-Length, 0 without. Raises BadMessage when it is no number or more than we take."""
    text = headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit()) or int(text) > MAX_BODY_BYTES:
        raise BadMessage(f"a Content-Length we don't take: {text[:20]!r}")
    return int(text)


def answer(status: int, headers: list[tuple[str, str]], body: str = "") -> bytes:
    """An answer as bytes; Content-Length is added for a body."""
    lines = [f"RTSP/1.0 {status} {REASONS[status]}", *(f"{name}: {value}" for name, value in headers)]
    if body:
        lines.append(f"Content-Length: {len(body.encode())}")
    return ("\r\n".join([*lines, "", ""]) + body).encode()


def request(method: str, url: str, headers: list[tuple[str, str]], body: str = "") -> bytes:
    """A request as bytes; Content-Length is added for a body."""
    lines = [f"{method} {url} RTSP/1.0", *(f"{name}: {value}" for name, value in headers)]
    if body:
        lines.append(f"Content-Length: {len(body.encode())}")
    return ("\r\n".join([*lines, "", ""]) + body).encode()


@dataclass(frozen=True, slots=True)
class Transport:
    """What a client asked for in SETUP: `ports` are interleaved channels (tcp) or its UDP ports, RTP and
    RTCP.
    """

    tcp: bool
    ports: tuple[int, int]


def parse_transport(header: str) -> Transport | None:
    """The first transport of the list that we can serve (unicast, TCP interleaved or UDP), or None."""
    for choice in header.split(","):
        fields = [part.strip() for part in choice.split(";")]
        named = dict(part.split("=", 1) for part in fields if "=" in part)
        if "multicast" in fields:
            continue
        if fields[0].upper() == "RTP/AVP/TCP":
            ports = _pair(named.get("interleaved", "0-1"), 255)
            if ports:
                return Transport(True, ports)
        elif fields[0].upper() in ("RTP/AVP", "RTP/AVP/UDP"):
            ports = _pair(named.get("client_port", ""), 65_535)
            if ports and ports[0] > 0:
                return Transport(False, ports)
    return None


def _pair(text: str, largest: int) -> tuple[int, int] | None:
    first, _, second = text.partition("-")
    if not (first.isascii() and first.isdigit()):
        return None
    a = int(first)
    b = int(second) if second.isascii() and second.isdigit() else a + 1
    return (a, b) if a <= largest and b <= largest else None


def parse_parameters(body: bytes) -> dict[str, str]:
    """text/parameters: `name: value` lines."""
    pairs = [line.partition(":") for line in body.decode("utf-8", "replace").splitlines() if line.strip()]
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
