"""The sections of the file that are not about one camera: engine, events, page, folders, logs."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from .broker_url import PATTERN, WISH, BrokerUrl
from .fields import LocalPath, Secret, Section, refuse_login, take_credentials
from .ice import IceServer


class EngineSettings(Section):
    """The device that inspects."""

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:[0-9]{1,2})?)$")
    """auto, cpu, cuda or cuda:1; auto takes the first GPU, else the CPU."""
    backend: Literal["auto", "torch", "openvino"] = "auto"
    """What computes the network; auto: openvino on a CPU where it is installed, else torch."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Number format; a reduced one is refused unless it answers the same as float32."""
    threads: int | None = Field(default=None, ge=1, le=256)
    """CPU threads of the network; null: one a core, of more than two cores all but one."""
    max_batch: int = Field(default=16, ge=1, le=256)
    """Frames that go through the device together, at most; fewer where that measures as good at start."""
    max_wait_ms: float = Field(default=10.0, ge=0, le=1000)
    """How long a frame waits for others to come along."""
    deadline_ms: float = Field(default=200.0, gt=0, le=60_000)
    """An older frame is dropped before work is spent on it, and counted; not with `frames: every`."""
    every_max_waiting: int = Field(default=16, ge=1, le=1024)
    """Frames that may wait for each camera with `frames: every`; the next one is refused."""
    stuck_after_s: float = Field(default=30.0, ge=1, le=600)
    """A device without an answer for so long is called stuck."""
    on_device_error: Literal["cpu", "stop"] = "cpu"
    """After a device error that a smaller batch does not cure: go on with the CPU, or stop."""
    cache_dir: LocalPath = Path("var/engine")
    """Compiled networks and measured choices, to start faster the next time."""

    @model_validator(mode="after")
    def _openvino_is_for_cpus(self) -> Self:
        if self.backend == "openvino" and self.device.startswith("cuda"):
            raise PydanticCustomError(
                "backend",
                "backend openvino computes on a CPU only, expected device: cpu, or backend: auto or torch",
            )
        return self


class OutboxSettings(Section):
    """The local store that every event passes before it goes to the broker."""

    path: LocalPath = Path("var/outbox.db")
    """SQLite file; on a disk of this machine, never on a network drive."""
    max_mb: int = Field(default=512, ge=8, le=1_000_000)
    """When full, the newest events are kept and what was dropped is counted."""


class TlsClientSettings(Section):
    """How we check a server that we connect to by TLS."""

    ca_file: LocalPath | None = None
    """Certificate authority; null: the system's."""
    cert_file: LocalPath | None = None
    """Our own certificate, where the server wants one."""
    key_file: LocalPath | None = None
    """The key of our own certificate."""
    verify: bool = True
    """false accepts any server: for trying out only."""

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise PydanticCustomError("tls", "cert_file and key_file belong together, one is missing")
        return self


class EmbeddedBrokerSettings(Section):
    """The broker that we start ourselves when `events.url` is embedded."""

    dir: LocalPath = Path("var/broker")
    """Its data, and the run file that tells readers of the same user its address."""
    port: int = Field(default=0, ge=0, le=65535)
    """TCP port on loopback; 0: a free one, kept over restarts where possible."""
    max_memory_mb: int = Field(default=512, ge=16, le=1_000_000)
    """More than this it refuses."""


_STREAM = re.compile(r"^[A-Za-z0-9_.:-]+$")


def _stream_name(template: str) -> str:
    bare = template.replace("{site}", "").replace("{line}", "")
    if not _STREAM.match(bare) or not template.endswith(":events"):
        raise PydanticCustomError(
            "stream", "expected letters, digits, `:`, {site} and {line}, ending in `:events`"
        )
    return template


def _broker_url(url: str) -> str:
    if not re.match(PATTERN, url):
        raise PydanticCustomError("broker_url", "does not fit, expected: {wish}", {"wish": WISH})
    if url != "embedded":
        refuse_login(url)
        try:
            BrokerUrl.parse(url)
        except ValueError as error:
            raise PydanticCustomError("broker_url", "{why}", {"why": str(error)}) from None
    return url


class SentinelSettings(Section):
    """How we log in at the sentinels themselves, where they ask for it."""

    username: str | None = None
    """Sentinel user (ACL); null: the default user."""
    password: Secret | None = None
    """Sentinel password."""


class EventsSettings(Section):
    """Where events go."""

    url: Annotated[
        str, AfterValidator(_broker_url), WithJsonSchema({"type": "string", "pattern": PATTERN})
    ] = "embedded"
    """embedded, redis://HOST:PORT/DB, rediss:// (TLS), unix:///path, redis+sentinel://HOST:PORT,…/SERVICE or
    redis+cluster://HOST:PORT,…; without user and password."""
    username: str | None = None
    """Broker user (ACL); null: the default user."""
    password: Secret | None = None
    """Broker password."""
    sentinel: SentinelSettings = SentinelSettings()
    """For redis+sentinel:// addresses."""
    tls: TlsClientSettings = TlsClientSettings()
    """For rediss://, rediss+sentinel:// and rediss+cluster:// addresses."""
    stream: Annotated[str, AfterValidator(_stream_name)] = "linewatch:{site}:{line}:events"
    """Key of the event stream; the other keys are its neighbours."""
    maxlen: int = Field(default=100_000, ge=100, le=100_000_000)
    """Entries that the stream keeps; as many acknowledged events stay in the outbox for a replay."""
    max_age_hours: float | None = Field(default=None, gt=0, le=876_000)
    """Older entries leave the stream too, by the time in their ids (MINID); null: only by maxlen."""
    heartbeat_every_s: float = Field(default=1.0, ge=0.1, le=60)
    """How often the heartbeat is renewed; it expires after three times that."""
    status_every_s: float = Field(default=1.0, ge=0.1, le=60)
    """How often each camera's status is written."""
    outbox: OutboxSettings = OutboxSettings()
    """The local store."""
    embedded: EmbeddedBrokerSettings = EmbeddedBrokerSettings()
    """The broker that we start ourselves."""

    @model_validator(mode="before")
    @classmethod
    def _credentials_out_of_the_url(cls, raw: Any) -> Any:
        return take_credentials(raw)

    @property
    def max_age_s(self) -> float | None:
        """`max_age_hours` in seconds."""
        return None if self.max_age_hours is None else self.max_age_hours * 3600

    def stream_key(self, site: str, line: str) -> str:
        """The event stream's key with its placeholders filled."""
        return self.stream.replace("{site}", site).replace("{line}", line)


class PartsSettings(Section):
    """Verdicts on triggered parts."""

    verdict_within_ms: float = Field(default=1000.0, gt=0, le=600_000)
    """A verdict is decided within this time after its trigger: ok, ng, or unknown with a reason."""


class TriggersSettings(Section):
    """How triggers find their frame."""

    max_waiting: int = Field(default=32, ge=1, le=1024)
    """Triggers of one camera that may wait; the next one is answered unknown: overloaded."""
    frame_within_ms: float = Field(default=200.0, gt=0, le=60_000)
    """The frame of a trigger is the nearest one that was taken at most so long after `at`."""


class WebrtcOutSettings(Section):
    """Live video to browsers."""

    udp_ports: str | None = Field(default="50000-50100", pattern=r"^[0-9]{1,5}-[0-9]{1,5}$")
    """UDP ports for live video, FIRST-LAST; null: any."""
    advertise: str | None = None
    """Address that browsers shall send to, behind NAT or in a container; null: this machine's own."""
    ice_servers: tuple[IceServer, ...] = ()
    """stun: or turn: addresses, or {url, username, credential}; of each kind the first is asked. None by
    default: nothing outside is ever asked."""

    @field_validator("udp_ports")
    @classmethod
    def _first_to_last(cls, text: str | None) -> str | None:
        if text is not None:
            first, last = (int(part) for part in text.split("-"))
            if not 1024 <= first <= last <= 65535:
                raise PydanticCustomError(
                    "ports", "expected FIRST-LAST within 1024 to 65535, FIRST not above"
                )
        return text

    @property
    def port_range(self) -> tuple[int, int] | None:
        """(first, last), both included; None: any port."""
        if self.udp_ports is None:
            return None
        first, _, last = self.udp_ports.partition("-")
        return int(first), int(last)


class TlsServerSettings(Section):
    """The page's own certificate."""

    cert_file: LocalPath
    """Certificate chain, PEM."""
    key_file: LocalPath
    """Its key, PEM."""


_LISTEN = re.compile(r"^(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(?P<port>[0-9]{1,5})$")


def listen_address(text: str) -> str:
    """ADDRESS:PORT as it is, or pydantic's error."""
    match = _LISTEN.match(text)
    if match is None or int(match["port"]) > 65535:
        raise PydanticCustomError("listen", "expected ADDRESS:PORT, for example 127.0.0.1:8080")
    return text


def is_loopback(listen: str) -> bool:
    """Whether only this machine can reach ADDRESS:PORT."""
    host = listen.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


class WebSettings(Section):
    """The live page and the REST interface."""

    listen: Annotated[str, AfterValidator(listen_address)] = "127.0.0.1:8080"
    """ADDRESS:PORT; an address that others can reach asks for a users file."""
    users_file: LocalPath | None = None
    """Users with hashed passwords; null: nobody logs in, on loopback only."""
    insecure: bool = False
    """true serves others without users: for trying out only."""
    tls: TlsServerSettings | None = None
    """Serve https; null: http."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names that browsers may use beside the listening address."""
    session_hours: float = Field(default=12.0, gt=0, le=720)
    """A login ends after so long."""
    mjpeg_fps: float = Field(default=10.0, gt=0, le=60)
    """Pictures a second of each camera in the grid, and where WebRTC can't pass."""
    jpeg_quality: int = Field(default=80, ge=20, le=100)
    """Quality of pictures on the page; inspection never sees a JPEG of ours."""
    webrtc: WebrtcOutSettings = WebrtcOutSettings()
    """Live video to browsers."""
    zones_file: LocalPath = Path("var/zones.yaml")
    """Where the page keeps the areas and masks that were drawn on it; read after this file."""

    @property
    def host(self) -> str:
        """The address of `listen`, without the brackets of IPv6."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the page."""
        return is_loopback(self.listen)

    @property
    def port(self) -> int:
        """The port of `listen`; 0: a free one."""
        return int(self.listen.rpartition(":")[2])


class ModelsSettings(Section):
    """Trained models."""

    dir: LocalPath = Path("var/models")
    """One folder a camera, one folder in it a version."""
    teacher_file: LocalPath | None = None
    """Weights of the teacher network; null: those of the installed package. Checked by hash."""
    keep_versions: int = Field(default=10, ge=2, le=1000)
    """Older versions than these may be removed; never the one in use."""


class PicturesSettings(Section):
    """Good pictures, collected for training."""

    dir: LocalPath = Path("var/pictures")
    """One folder a camera."""
    max_age_days: float | None = Field(default=None, gt=0)
    """Older pictures are removed; null: kept."""
    max_mb: int = Field(default=4096, ge=16)
    """All pictures together; the oldest go first."""


class EvidenceSettings(Section):
    """Pictures and heat maps of defects."""

    dir: LocalPath = Path("var/evidence")
    """One folder a camera."""
    max_age_days: float | None = Field(default=90.0, gt=0)
    """Older ones are removed; null: kept."""
    max_mb: int = Field(default=4096, ge=16)
    """All together; the oldest go first, confirmed ones last."""


class LogsSettings(Section):
    """What the program says on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important that is said."""
    as_json: bool = Field(default=False, alias="json")
    """One JSON object a line, for machines; false: a line for people."""
