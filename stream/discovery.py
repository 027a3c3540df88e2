"""Which cameras are on this network: WS-Discovery 1.1 (2005/04 namespaces, as ONVIF has it), over UDP.

A probe goes out on every network interface, twice, because a packet may get lost; whoever answers within a
few seconds is listed once. Multicast does not pass routers: cameras behind one are named by address, and
asked directly (stream/onvif.py).
"""

import contextlib
import select
import socket
import struct
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote
from xml.sax.saxutils import escape

from .onvif import BadAnswer, parse_xml, split_url, texts

GROUP, PORT = "239.255.255.250", 3702
_PROBE = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
    ' xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"'
    ' xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"'
    ' xmlns:dn="http://www.onvif.org/ver10/network/wsdl"><s:Header>'
    "<a:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</a:Action>"
    "<a:MessageID>{message}</a:MessageID>"
    "<a:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To></s:Header>"
    "<s:Body><d:Probe><d:Types>dn:NetworkVideoTransmitter</d:Types></d:Probe></s:Body></s:Envelope>"
)
_MAX_ANSWER_BYTES = 65_535
_MAX_CAMERAS = 1024
_AGAIN_AFTER_S = 0.5


@dataclass(frozen=True, slots=True)
class Found:
    """A device that answered: `address` is where the answer came from, `service` its ONVIF address there;
    `endpoint` is its own name for itself, the same on all its networks.
    """

    address: str
    service: str
    name: str = ""
    hardware: str = ""
    endpoint: str = ""


def probe(within_s: float = 4.0, group: str = GROUP, port: int = PORT) -> list[Found]:
    """Ask, and wait `within_s` for answers; sorted by address. Blocks. Raises OSError without a network."""
    found: dict[str, Found] = {}
    message = f"urn:uuid:{uuid.uuid4()}"
    begun = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        sender.bind(("", 0))
        sender.setblocking(False)
        for until in (begun + min(_AGAIN_AFTER_S, within_s / 2), begun + within_s):
            _send_on_all(sender, _PROBE.format(message=escape(message)).encode(), (group, port))
            for answer, address in _answers(sender, until):
                if (device := read_match(answer, address, message)) is not None and len(found) < _MAX_CAMERAS:
                    found.setdefault(device.endpoint or device.service, device)
    return sorted(found.values(), key=lambda device: (socket.inet_aton(device.address), device.service))


def read_match(answer: bytes, address: str, message: str) -> Found | None:
    """The device of a ProbeMatches from `address`; None for what is none, or none of ours."""
    try:
        envelope = parse_xml(answer)
    except BadAnswer:
        return None
    if message not in texts(envelope, "RelatesTo"):
        return None  # an answer to somebody else's probe
    service = _service(texts(envelope, "XAddrs"), address)
    if service is None:
        return None
    scopes = " ".join(texts(envelope, "Scopes")).split()
    endpoint = next((text for text in texts(envelope, "Address") if text.startswith(("urn:", "uuid:"))), "")
    return Found(address, service, _scope(scopes, "name"), _scope(scopes, "hardware"), endpoint)


def _service(listed: list[str], address: str) -> str | None:
    """A service address on the host that answered: what is sent there may hold a proof of our password, so it
    goes to nobody else. Devices behind NAT list addresses that nobody reaches; their path is right.
    """
    candidates = [split_url(url) for text in listed for url in text.split()]
    usable = [url for url in candidates if url and url.scheme in ("http", "https") and url.hostname]
    if not usable:
        return None
    own = [url for url in usable if url.hostname == address]
    url = (own or usable)[0]
    port = f":{url.port}" if url.port else ""
    return f"{url.scheme}://{address}{port}{url.path or '/onvif/device_service'}"


def _scope(scopes: list[str], what: str) -> str:
    start = f"onvif://www.onvif.org/{what}/"
    value = next((unquote(scope[len(start) :]) for scope in scopes if scope.startswith(start)), "")
    return "".join(char for char in value if char.isprintable())[:64]


def _send_on_all(sender: socket.socket, probe_: bytes, where: tuple[str, int]) -> None:
    """On every interface that takes it; a machine on a line often has one for the cameras alone."""
    sent = 0
    for index, _ in socket.if_nameindex():
        by = struct.pack("=4s4si", b"\0" * 4, b"\0" * 4, index)
        try:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, by)
            sent += sender.sendto(probe_, where) > 0
        except OSError:
            continue  # it is down, or has no IPv4 address
    if not sent:
        raise OSError("no network interface takes a multicast packet")


def _answers(receiver: socket.socket, until: float) -> Iterator[tuple[bytes, str]]:
    while (left_s := until - time.monotonic()) > 0:
        if not select.select([receiver], [], [], left_s)[0]:
            return
        with contextlib.suppress(OSError):  # an ICMP error of somebody who doesn't listen
            answer, (address, _) = receiver.recvfrom(_MAX_ANSWER_BYTES)
            yield answer, address
