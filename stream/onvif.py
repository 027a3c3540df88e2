"""What one ONVIF camera streams: device information, media profiles, their RTSP addresses.

SOAP 1.2 over HTTP, answers read by local names alone, because cameras differ in everything else. Media
service version 1 (every ONVIF camera has it). The password is never sent: a UsernameToken digest, made by the
camera's own clock, or HTTP digest, where the camera asks for that.

OnvifError           one sentence for a person, without credentials
 ├── NotAllowed      user and password are missing or wrong
 ├── NoAnswer        nothing there, or not in time
 └── BadAnswer       what came is no ONVIF
"""

import base64
import hashlib
import http.client
import secrets
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import SplitResult, urlsplit
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from pydantic import SecretStr

from config.url import split_credentials

_MAX_BYTES = 1 << 20
_MAX_PROFILES = 32
_DEVICE = "http://www.onvif.org/ver10/device/wsdl"
_MEDIA = "http://www.onvif.org/ver10/media/wsdl"
_SCHEMA = "http://www.onvif.org/ver10/schema"
_WSS = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss"
_DIGEST = f"{_WSS}-username-token-profile-1.0#PasswordDigest"
_BASE64 = f"{_WSS}-soap-message-security-1.0#Base64Binary"


class OnvifError(Exception):
    """Base of what can go wrong with a camera."""

    user_message = True


class NotAllowed(OnvifError):
    """User and password are missing or wrong."""


class NoAnswer(OnvifError):
    """Nothing there, or not in time."""


class BadAnswer(OnvifError):
    """What came is no ONVIF."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One media profile. `url` is without credentials; what the camera does not say is "" or 0."""

    profile: str
    url: str
    codec: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0


@dataclass(frozen=True, slots=True)
class Device:
    """What a camera says of itself, and its streams, the largest first."""

    maker: str
    model: str
    firmware: str
    streams: tuple[Stream, ...]


@dataclass(frozen=True, slots=True)
class Login:
    """Who asks; never shown."""

    username: str
    password: SecretStr


def describe(service: str, login: Login | None = None, timeout_s: float = 5.0) -> Device:
    """Ask the camera at `service` (http://HOST/onvif/device_service). Blocks. Raises OnvifError."""
    client = _Client(login, timeout_s)
    client.learn_clock(service)
    information = client.ask(service, f'<GetDeviceInformation xmlns="{_DEVICE}"/>')
    media = _media_service(client, service)
    profiles = client.ask(media, f'<GetProfiles xmlns="{_MEDIA}"/>')
    streams = [_stream(client, media, profile) for profile in _all(profiles, "Profiles")[:_MAX_PROFILES]]
    streams.sort(key=lambda stream: -stream.width * stream.height)
    said = (_text(information, key) for key in ("Manufacturer", "Model", "FirmwareVersion"))
    maker, model, firmware = said
    return Device(maker, model, firmware, tuple(stream for stream in streams if stream.url))


def parse_xml(data: bytes) -> Element:
    """Raises BadAnswer; also for a document type, which no SOAP message has and some attacks begin with."""
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise BadAnswer("what it answers is no SOAP message")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError):
        raise BadAnswer("what it answers is no SOAP message") from None


def split_url(url: str) -> SplitResult | None:
    """None where urllib refuses the brackets or the port, which devices and people get wrong."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for what is no port
    except ValueError:
        return None
    return parts


def texts(root: Element, name: str) -> list[str]:
    """The texts of all elements of this local name."""
    return [(element.text or "").strip() for element in _all(root, name)]


class _Client:
    """Asks one camera. Its clock decides what is a fresh digest, so it is asked first, without a login."""

    def __init__(self, login: Login | None, timeout_s: float) -> None:
        self._login, self._timeout_s = login, timeout_s
        self._offset = timedelta()
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({}), _NoRedirect()]
        if login is not None:
            known = urllib.request.HTTPPasswordMgrWithDefaultRealm()
            self._passwords = known
            handlers.append(urllib.request.HTTPDigestAuthHandler(known))
        self._opener = urllib.request.build_opener(*handlers)

    def learn_clock(self, service: str) -> None:
        try:
            answer = self.ask(service, f'<GetSystemDateAndTime xmlns="{_DEVICE}"/>', sign=False)
        except NotAllowed:
            return  # against the standard, and some do; then its clock must be right
        told = _all(answer, "UTCDateTime")
        numbers = [_int(told[0], key) for key in _CLOCK] if told else []
        if numbers and numbers[0]:
            year, month, day, hour, minute, second = numbers
            try:
                now = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
            except ValueError:
                return
            self._offset = now - datetime.now(UTC)

    def ask(self, url: str, body: str, *, sign: bool = True) -> Element:
        """The answer's envelope. Raises OnvifError."""
        header = self._token() if sign and self._login is not None else ""
        envelope = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope">'
            f"<s:Header>{header}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
        )
        if self._login is not None:
            secret = self._login.password.get_secret_value()
            self._passwords.add_password(None, url, self._login.username, secret)
        content = {"content-type": "application/soap+xml; charset=utf-8"}
        request = urllib.request.Request(url, envelope.encode(), content)
        where = urlsplit(url).netloc
        try:
            with self._opener.open(request, timeout=self._timeout_s) as reply:
                return parse_xml(reply.read(_MAX_BYTES))
        except urllib.error.HTTPError as error:
            raise self._refusal(error, where) from None
        except UnicodeError:  # a label that is empty or longer than 63 letters
            raise NoAnswer(f"{where}: there can be no host of that name") from None
        except ValueError:  # urllib's word for a login that is neither of ours
            raise BadAnswer(f"{where} asks for a login of a kind that is not offered here") from None
        except (OSError, http.client.HTTPException) as error:
            why = error.reason if isinstance(error, urllib.error.URLError) else error
            word = getattr(why, "strerror", None) or "no answer in time"
            raise NoAnswer(f"{where}: {word}") from None

    def _refusal(self, error: urllib.error.HTTPError, where: str) -> OnvifError:
        with error:
            fault = error.read(_MAX_BYTES)
        if error.code in (401, 403) or b"NotAuthorized" in fault or b"FailedAuthentication" in fault:
            if self._login is None:
                return NotAllowed(f"{where} tells its streams only to a user; name one with --user")
            return NotAllowed(f"{where} refuses this user or password")
        return BadAnswer(f"{where} answers with a fault ({error.code})")

    def _token(self) -> str:
        """WS-Security UsernameToken profile 1.0: Base64(SHA-1(nonce + created + password))."""
        assert self._login is not None
        nonce = secrets.token_bytes(16)
        created = (datetime.now(UTC) + self._offset).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        secret = self._login.password.get_secret_value().encode()
        digest = base64.b64encode(hashlib.sha1(nonce + created.encode() + secret).digest()).decode()
        return (
            f'<Security xmlns="{_WSS}-wssecurity-secext-1.0.xsd" s:mustUnderstand="1"><UsernameToken>'
            f"<Username>{escape(self._login.username)}</Username>"
            f'<Password Type="{_DIGEST}">{digest}</Password>'
            f'<Nonce EncodingType="{_BASE64}">{base64.b64encode(nonce).decode()}</Nonce>'
            f'<Created xmlns="{_WSS}-wssecurity-utility-1.0.xsd">{created}</Created>'
            "</UsernameToken></Security>"
        )


_CLOCK = ("Year", "Month", "Day", "Hour", "Minute", "Second")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the proof of the password to another host."""

    def redirect_request(self, *request: object, **more: object) -> None:
        return None


def _media_service(client: _Client, service: str) -> str:
    """The media service, on the host that was asked whatever host is named: see discovery._service."""
    answer = client.ask(
        service, f'<GetCapabilities xmlns="{_DEVICE}"><Category>Media</Category></GetCapabilities>'
    )
    media = _all(answer, "Media")
    named = split_url(_text(media[0], "XAddr") if media else "")
    if named is None:
        raise BadAnswer(f"{urlsplit(service).netloc} names an address of its media service that is none")
    return urlsplit(service)._replace(path=named.path or "/onvif/media_service", query=named.query).geturl()


def _stream(client: _Client, media: str, profile: Element) -> Stream:
    token = profile.get("token", "")
    answer = client.ask(
        media,
        f'<GetStreamUri xmlns="{_MEDIA}"><StreamSetup><Stream xmlns="{_SCHEMA}">RTP-Unicast</Stream>'
        f'<Transport xmlns="{_SCHEMA}"><Protocol>RTSP</Protocol></Transport></StreamSetup>'
        f"<ProfileToken>{escape(token)}</ProfileToken></GetStreamUri>",
    )
    url = split_credentials(_text(answer, "Uri")).url  # some cameras put a password in
    found = _all(profile, "VideoEncoderConfiguration")
    name = _text(profile, "Name") or token
    if not found:
        return Stream(name, url)
    video = found[0]
    return Stream(
        name,
        url if url.isprintable() and " " not in url else "",
        _text(video, "Encoding"),
        _int(video, "Width"),
        _int(video, "Height"),
        float(_int(video, "FrameRateLimit")),
    )


def _all(root: Element, name: str) -> list[Element]:
    return [element for element in root.iter() if element.tag.rpartition("}")[2] == name]


def _text(root: Element, name: str) -> str:
    text = next(iter(texts(root, name)), "")
    return "".join(char for char in text if char.isprintable())[:512]


def _int(root: Element, name: str) -> int:
    text = next(iter(texts(root, name)), "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
