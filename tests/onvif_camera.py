"""An ONVIF camera as far as discovery goes: answers probes by UDP and four SOAP calls by HTTP, on loopback.

Its clock is wrong by `clock_off_s`, and it checks the UsernameToken against that clock, as real ones do.
"""

import base64
import hashlib
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GROUP, PORT = "239.255.255.250", 3702

_ENVELOPE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<env:Envelope xmlns:env="http://www.w3.org/2003/05/soap-envelope"'
    ' xmlns:wsa="http://schemas.xmlsoap.org/ws/2004/08/addressing"'
    ' xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"'
    ' xmlns:tds="http://www.onvif.org/ver10/device/wsdl" xmlns:trt="http://www.onvif.org/ver10/media/wsdl"'
    ' xmlns:tt="http://www.onvif.org/ver10/schema" xmlns:ter="http://www.onvif.org/ver10/error">'
    "<env:Header>{header}</env:Header><env:Body>{body}</env:Body></env:Envelope>"
)
_FAULT = (
    "<env:Fault><env:Code><env:Value>env:Sender</env:Value><env:Subcode><env:Value>ter:NotAuthorized"
    "</env:Value></env:Subcode></env:Code></env:Fault>"
)
# token, name, width, height: the small one first, as many cameras list them
_PROFILES = (("p2", "sub", 640, 360), ("p1", "main", 1920, 1080))


@dataclass
class OnvifCamera:
    """What it is told to be, and what it was asked. `listed`: the host that it names, not always its own."""

    username: str | None = None
    password: str = ""
    clock_off_s: float = 0.0
    listed: str = "127.0.0.1"
    port: int = 0
    asked: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def service(self) -> str:
        return f"http://127.0.0.1:{self.port}/onvif/device_service"

    def answer(self, body: bytes) -> tuple[int, str]:
        """HTTP status and envelope for one call."""
        self.bodies.append(body)
        text = body.decode()
        call = re.search(r"<s:Body><(\w+)", text)
        assert call is not None
        self.asked.append(call[1])
        if call[1] != "GetSystemDateAndTime" and not self._lets_in(text):
            return 400, _ENVELOPE.format(header="", body=_FAULT)
        return 200, _ENVELOPE.format(header="", body=getattr(self, "_" + call[1])(text))

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.clock_off_s)

    def _lets_in(self, text: str) -> bool:
        if self.username is None:
            return True
        found = [re.search(rf"<{key}[^>]*>([^<]*)</{key}>", text) for key in _TOKEN]
        if not all(found):
            return False
        name, digest, nonce, created = (match[1] for match in found if match)
        age_s = abs((self.now() - datetime.fromisoformat(created)).total_seconds())
        proof = hashlib.sha1(base64.b64decode(nonce) + created.encode() + self.password.encode()).digest()
        return name == self.username and age_s < 5 and base64.b64decode(digest) == proof

    def _GetSystemDateAndTime(self, text: str) -> str:
        at = self.now()
        units = ("Hour", "Minute", "Second", "Year", "Month", "Day")
        told = [f"<tt:{unit}>{getattr(at, unit.lower())}</tt:{unit}>" for unit in units]
        time, date = "".join(told[:3]), "".join(told[3:])
        utc = f"<tt:UTCDateTime><tt:Time>{time}</tt:Time><tt:Date>{date}</tt:Date></tt:UTCDateTime>"
        return f"<tds:GetSystemDateAndTimeResponse>{utc}</tds:GetSystemDateAndTimeResponse>"

    def _GetDeviceInformation(self, text: str) -> str:
        return (
            "<tds:GetDeviceInformationResponse><tds:Manufacturer>Acme</tds:Manufacturer>"
            "<tds:Model>Eye 3</tds:Model><tds:FirmwareVersion>1.2</tds:FirmwareVersion>"
            "</tds:GetDeviceInformationResponse>"
        )

    def _GetCapabilities(self, text: str) -> str:
        url = f"http://{self.listed}:{self.port}/onvif/media?x=1"
        media = f"<tt:Media><tt:XAddr>{url}</tt:XAddr></tt:Media>"
        return f"<tds:X><tds:Capabilities>{media}</tds:Capabilities></tds:X>"

    def _GetProfiles(self, text: str) -> str:
        return (
            "<trt:GetProfilesResponse>"
            + "".join(
                f'<trt:Profiles token="{token}"><tt:Name>{name}</tt:Name><tt:VideoEncoderConfiguration>'
                f"<tt:Encoding>H264</tt:Encoding><tt:Resolution><tt:Width>{width}</tt:Width>"
                f"<tt:Height>{height}</tt:Height></tt:Resolution><tt:RateControl><tt:FrameRateLimit>25"
                "</tt:FrameRateLimit></tt:RateControl></tt:VideoEncoderConfiguration></trt:Profiles>"
                for token, name, width, height in _PROFILES
            )
            + "</trt:GetProfilesResponse>"
        )

    def _GetStreamUri(self, text: str) -> str:
        token = re.search(r"<ProfileToken>(\w+)<", text)
        assert token is not None
        url = f"rtsp://someone:s3cret@{self.listed}:554/{token[1]}?a=1&amp;b=2"
        return f"<trt:X><trt:MediaUri><tt:Uri>{url}</tt:Uri></trt:MediaUri></trt:X>"

    def match(self, probe: bytes) -> bytes:
        """The ProbeMatches for a probe."""
        message = re.search(rb"MessageID>([^<]+)<", probe)
        assert message is not None
        header = f"<wsa:RelatesTo>{message[1].decode()}</wsa:RelatesTo>"
        scopes = "onvif://www.onvif.org/name/Acme%20Eye onvif://www.onvif.org/hardware/Eye%203"
        service = f"http://{self.listed}:{self.port}/onvif/device_service"
        body = (
            "<d:ProbeMatches><d:ProbeMatch><wsa:EndpointReference><wsa:Address>urn:uuid:acme-1</wsa:Address>"
            "</wsa:EndpointReference><d:Types>dn:NetworkVideoTransmitter</d:Types>"
            f"<d:Scopes>{scopes}</d:Scopes><d:XAddrs>{service}</d:XAddrs></d:ProbeMatch></d:ProbeMatches>"
        )
        return _ENVELOPE.format(header=header, body=body).encode()


_TOKEN = ("Username", "Password", "Nonce", "Created")


@contextmanager
def serving(camera: OnvifCamera, port: int | None = None) -> Iterator[OnvifCamera]:
    """HTTP on a free port; with `port`, it also answers multicast probes there."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, text = camera.answer(self.rfile.read(int(self.headers["content-length"])))
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None: ...

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
    ):
        camera.port = server.server_address[1]
        threads = [threading.Thread(target=server.serve_forever, name="onvif-http")]
        stop = threading.Event()
        if port is not None:
            threads.append(
                threading.Thread(target=_answer_probes, args=(udp, camera, port, stop), name="onvif-udp")
            )
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            udp.bind(("", port))
            here = struct.pack("=4s4si", socket.inet_aton(GROUP), b"\0" * 4, socket.if_nametoindex("lo"))
            udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, here)
            udp.settimeout(0.1)
        for thread in threads:
            thread.start()
        try:
            yield camera
        finally:
            stop.set()
            server.shutdown()
            for thread in threads:
                thread.join()


def _answer_probes(udp: socket.socket, camera: OnvifCamera, port: int, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            probe, sender = udp.recvfrom(65_535)
        except TimeoutError:
            continue
        udp.sendto(camera.match(b"MessageID>of-another<"), sender)
        udp.sendto(b"<no soap", sender)
        udp.sendto(camera.match(probe), sender)
