"""Events as signed HTTP POSTs: to an MES, a historian, a chat.

    bridges:
      mes: {type: webhook, url: "https://mes.plant-a/linewatch", secret: {file: /run/secrets/mes}}

The body is the event as JSON. It is signed after the Standard Webhooks specification (1.0), for which most
languages have a library: `webhook-id` (the event's id, the same over every retry), `webhook-timestamp`
(seconds) and `webhook-signature`, `v1,` + base64 of HMAC-SHA256 over `id.timestamp.body`. Redirects are
never followed: where events go stands in the config file and nowhere else.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Iterator
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from config.fields import Secret
from config.services import TlsClientSettings

from ..events import Event
from .http import Poster, Reply
from .sink import BridgeOptions, Line, PeerAway, Rejected, Wrong

NEEDS: dict[str, str] = {}

_SECRET_PREFIX = "whsec_"
# The peer has read this event and will not have it; everything else is about the peer.
_NOT_THIS_EVENT = {400, 413, 415, 422}
# The address, what we show for it, or the moment is wrong, or a gateway speaks for a peer that is away: no
# event is to blame, and none may be lost by it.
_NO_EVENTS_FAULT = {401, 403, 404, 405, 407, 408, 410, 421, 425, 426, 429, 502, 503, 504}
_LONGEST_RETRY_AFTER_S = 60.0


class Options(BridgeOptions):
    """Keys of a bridge of type webhook."""

    url: str
    """http:// or https:// address that takes the events."""
    secret: Secret
    """Signs every event; a text of 16 characters or more, or whsec_ and base64."""
    token: Secret | None = None
    """Sent as `Authorization: Bearer TOKEN`; null: nothing is sent."""
    tls: TlsClientSettings = TlsClientSettings()
    """For https:// addresses."""
    timeout_s: float = Field(default=10.0, gt=0, le=300)
    """One attempt ends after so long, whatever the peer does."""
    give_up_after_s: float = Field(default=3600.0, ge=0)
    """An event that the peer has answered with an internal error (500), or with another status that may be
    about the event, for so long becomes a dead letter."""

    @field_validator("url")
    @classmethod
    def _plain_address(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            # As it is looked up: a label that is empty or too long would make a dead letter of each event.
            host = (parts.hostname or "").encode("idna")
            well = parts.scheme in ("http", "https") and bool(host) and parts.port != 0
        except ValueError:
            well = False
        if not well or not url.isascii() or not url.isprintable() or " " in url:
            raise PydanticCustomError("url", "expected http:// or https:// with a host")
        if parts.username is not None or parts.password is not None:
            raise PydanticCustomError("url", "holds a user or password, expected them in the key token")
        return url

    @field_validator("token")
    @classmethod
    def _fits_a_header(cls, token: SecretStr | None) -> SecretStr | None:
        text = "none" if token is None else token.get_secret_value()
        # Else no event could be sent, and each would become a dead letter.
        if not (text and text.isascii() and text.isprintable()) or text != text.strip():
            raise PydanticCustomError(
                "webhook_token", "can't stand in a header, expected printable ASCII without spaces around it"
            )
        return token

    @model_validator(mode="after")
    def _long_secret(self) -> Self:
        if len(signing_key(self.secret)) < 16:
            raise PydanticCustomError("webhook_secret", "secret is too short, expected 16 characters or more")
        return self


def signing_key(secret: SecretStr) -> bytes:
    """The key in a secret; empty for `whsec_` without base64 behind it."""
    text = secret.get_secret_value()
    if not text.startswith(_SECRET_PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
    except ValueError:
        return b""


def signature(key: bytes, event_id: str, timestamp: str, body: bytes) -> str:
    """The value of `webhook-signature`."""
    signed = hmac.new(key, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(signed).decode()


def check(options: Options, site: str, line: str) -> Iterator[Wrong]:
    """Certificates and keys that no connection would come about with."""
    from .certificates import wrong_for_client

    if options.url.startswith("https:"):
        yield from wrong_for_client(options.tls)


def build(options: Options, line: Line) -> "Webhook":
    """Raises PeerAway for certificates that can't be read."""
    return Webhook(options, Poster(options.url, options.tls, options.timeout_s))


class Webhook:
    """A Sink. Each event is one POST; what the peer answers decides. `now_s` is UTC, for the signature;
    `elapsed_s` measures, and no clock that is set moves it.
    """

    def __init__(
        self,
        options: Options,
        poster: Poster,
        now_s: Callable[[], float] = time.time,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options, self._poster = options, poster
        self._now_s, self._elapsed_s = now_s, elapsed_s
        self._key = signing_key(options.secret)
        # Each camera's event that may itself be why it isn't taken, and since when (elapsed_s).
        self._failing: dict[str, tuple[str, float]] = {}

    async def run(self) -> None:
        await self._poster.run()

    async def deliver(self, event: Event) -> None:
        body = event.json_text().encode()
        reply = await self._poster.post(body, self._headers(event, body))
        if 200 <= reply.status < 300:
            self._failing.pop(event.camera, None)
            return
        self._refuse(event, reply)

    def _headers(self, event: Event, body: bytes) -> dict[str, str]:
        stamp = str(int(self._now_s()))
        headers = {
            "content-type": "application/json",
            "webhook-id": event.id,
            "webhook-timestamp": stamp,
            "webhook-signature": signature(self._key, event.id, stamp, body),
        }
        if self._options.token is not None:
            headers["authorization"] = f"Bearer {self._options.token.get_secret_value()}"
        return headers

    def _refuse(self, event: Event, reply: Reply) -> None:
        answer = f"{self._poster.host} answers {reply.status}"
        if reply.status in _NOT_THIS_EVENT:
            raise Rejected(answer)
        if 300 <= reply.status < 400:
            raise PeerAway(f"{answer}, a redirect; it is not followed: write the address itself into url")
        if reply.status not in _NO_EVENTS_FAULT:
            first_id, since_s = self._failing.get(event.camera, ("", 0.0))
            if first_id != event.id:
                since_s = self._elapsed_s()
                self._failing[event.camera] = (event.id, since_s)
            failing_s = self._elapsed_s() - since_s
            if failing_s >= self._options.give_up_after_s:
                raise Rejected(f"{answer} since {failing_s:.0f} s")
        raise PeerAway(answer, min(reply.retry_after_s, _LONGEST_RETRY_AFTER_S))
