"""Events, states and commands over MQTT 3.1.1. Topics, with `topics: plain` and the prefix `linewatch`:

    linewatch/SITE/LINE/availability            retained  online · offline (also the last will)
    linewatch/SITE/LINE/CAMERA/state            retained  the status as JSON: ready, busy, result_no, …
    linewatch/SITE/LINE/CAMERA/events/KIND      QoS 1     the event as JSON; camera `-`: the line's own
    linewatch/SITE/LINE/CAMERA/command          in        {"command": "threshold", "value": "2.5", "id": "c1"}
    linewatch/SITE/LINE/CAMERA/answer           QoS 1     {"id": "c1", "answer": "done", "reason": "…"}

`topics: sparkplug` orders them as Sparkplug B does (GROUP is the site, EDGE the line, DEVICE the camera):
PREFIX/SITE/NBIRTH|NDEATH|NDATA/LINE and PREFIX/SITE/DBIRTH|DDATA|DCMD/LINE/CAMERA. The payloads are the same
JSON and not Sparkplug's protobuf, so the default prefix is ours and not `spBv1.0`.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from config.fields import Secret
from config.services import TlsClientSettings

from .sink import BridgeOptions, Key, Line, Wrong

if TYPE_CHECKING:
    from .mqtt_client import MqttSink

NEEDS = {"aiomqtt": "linewatch[mqtt]"}

_PORTS = {"mqtt": 1883, "mqtts": 8883}


class Options(BridgeOptions):
    """Keys of a bridge of type mqtt."""

    url: str
    """mqtt://HOST:PORT, or mqtts:// (TLS), without user and password."""
    username: str | None = None
    """User at the MQTT broker; null: none."""
    password: Secret | None = None
    """Password at the MQTT broker."""
    tls: TlsClientSettings = TlsClientSettings()
    """For mqtts:// addresses."""
    client_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Name at the MQTT broker, for one client at a time; null: linewatch-SITE-LINE."""
    prefix: str = Field(default="linewatch", pattern=r"^[^/+#$\s][^+#\s]{0,127}$")
    """First levels of every topic."""
    topics: Literal["plain", "sparkplug"] = "plain"
    """plain, or the order of topics that Sparkplug B has (payloads stay JSON)."""
    qos: Literal[1, 2] = 1
    """Quality of service of events and answers."""
    commands: bool = True
    """Take commands; who may send them is for the MQTT broker's ACL to say."""
    timeout_s: float = Field(default=10.0, gt=0, le=300)
    """An answer of the MQTT broker is waited for so long."""
    keepalive_s: int = Field(default=10, ge=5, le=3600)
    """A broker that is silent for longer is away; after 1.5 times that it says offline for us."""

    @field_validator("url")
    @classmethod
    def _plain_address(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            # As it is looked up: a label that is empty or too long would end the bridge.
            host = (parts.hostname or "").encode("idna")
            well = parts.scheme in _PORTS and bool(host) and parts.port != 0
        except ValueError:
            well = False
        if not well or parts.path.strip("/") or parts.query:
            raise PydanticCustomError("url", "expected mqtt://HOST:PORT or mqtts://HOST:PORT")
        if parts.username is not None or parts.password is not None:
            raise PydanticCustomError("url", "holds a user or password, expected keys of their own")
        return url

    @model_validator(mode="after")
    def _user_and_password(self) -> Self:
        if self.password is not None and self.username is None:
            raise PydanticCustomError("mqtt", "password needs a username")
        return self

    @property
    def address(self) -> tuple[str, int]:
        """(host, port)."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or _PORTS[parts.scheme]

    @property
    def alone(self) -> tuple[Key, str]:
        """The broker sends a client away when another one of its name comes."""
        host, port = self.address
        return ("client_id",), f"the name {self.client_id or 'linewatch-SITE-LINE'} at {host}:{port}"


def check(options: Options, site: str, line: str) -> Iterator[Wrong]:
    """Certificates and keys that no connection would come about with."""
    from .certificates import wrong_for_client

    if options.url.startswith("mqtts:"):
        yield from wrong_for_client(options.tls)


def build(options: Options, line: Line) -> "MqttSink":
    """It connects with its `run`. Raises PeerAway for certificates that can't be read."""
    from .mqtt_client import MqttSink

    return MqttSink(options, line)
