"""Where a camera's pictures come from: a union that `type` tells apart, open to types that others install."""

import functools
from importlib.metadata import entry_points
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from .fields import (
    LocalPath,
    Secret,
    Section,
    plain_address,
    read_secret,
    refuse_login,
    take_credentials,
)
from .ice import IceServer
from .redaction import SECRET_KEY
from .url import CameraUrl


class RtspSource(Section):
    """An IP camera that speaks RTSP."""

    type: Literal["rtsp"]
    """Which kind of source this is."""
    url: str = Field(pattern=r"^rtsps?://[^\s/]+", examples=["rtsp://10.0.10.10:554/s1"])
    """rtsp:// or rtsps:// address, without user and password: those are keys of their own."""
    username: str | None = None
    """User on the camera."""
    password: Secret | None = None
    """Password on the camera; we percent-encode it."""
    transport: Literal["tcp", "udp"] = "tcp"
    """How the pictures travel; with udp a lost packet damages pictures without an error."""
    video: int = Field(default=0, ge=0, le=15)
    """Which video of a session that has several; most cameras rather have an address for each."""
    connect_timeout_s: float = Field(default=5.0, gt=0, le=120)
    """How long the camera may take to answer."""
    read_timeout_s: float = Field(default=3.0, gt=0, le=120)
    """How long it may be silent before the connection is given up."""
    decoder: Literal["software", "auto", "cuda", "vaapi", "qsv"] = "software"
    """Where pictures are decoded; falls back to software, which is said in the log."""
    tls_ca_file: LocalPath | None = None
    """Certificate authority for rtsps://; null: no check of the camera's certificate."""

    @model_validator(mode="before")
    @classmethod
    def _credentials_out_of_the_url(cls, raw: Any) -> Any:
        return take_credentials(raw)

    @field_validator("url")
    @classmethod
    def _plain_address(cls, url: str) -> str:
        return plain_address(url)

    def camera_url(self) -> CameraUrl:
        """The address with its credentials, hidden in every text."""
        return CameraUrl(self.url, self.username, self.password)


class WebrtcSource(Section):
    """A camera, browser or media server that speaks WebRTC."""

    type: Literal["webrtc"]
    """Which kind of source this is."""
    mode: Literal["whip", "whep"] = "whip"
    """whip: the camera pushes to our page's address /whip/NAME; whep: we pull from `url`."""
    url: str | None = Field(default=None, pattern=r"^https?://[^\s/]+")
    """The media server's WHEP address; for whep only."""
    token: Secret | None = None
    """Bearer token: whip wants it from the camera, whep shows it to the server."""
    ice_servers: tuple[IceServer, ...] = ()
    """stun: or turn: addresses, or {url, username, credential}; of each kind the first is asked. None by
    default: nothing outside is ever asked."""
    connect_timeout_s: float = Field(default=10.0, gt=0, le=120)
    """How long a connection may take to come about."""
    read_timeout_s: float = Field(default=3.0, gt=0, le=120)
    """How long it may be silent before the connection is given up."""

    @field_validator("url")
    @classmethod
    def _plain_address(cls, url: str | None) -> str | None:
        if url is not None:
            refuse_login(url, "key token")
            plain_address(url)
        return url

    @model_validator(mode="after")
    def _whep_needs_an_address(self) -> Self:
        if self.mode == "whep" and self.url is None:
            raise PydanticCustomError("webrtc_url", "mode whep needs url, the address to pull from")
        if self.mode == "whip" and self.url is not None:
            raise PydanticCustomError("webrtc_url", "mode whip takes no url: the camera pushes to us")
        return self


class UsbSource(Section):
    """A camera on this machine (V4L2)."""

    type: Literal["usb"]
    """Which kind of source this is."""
    device: str = Field(default="/dev/video0", pattern=r"^(\d+|/dev/.+)$")
    """Device file, or its number as text; /dev/v4l/by-id/… survives replugging."""
    width_px: int | None = Field(default=None, ge=16, le=16384)
    """Picture width to ask for; null: the camera's own choice."""
    height_px: int | None = Field(default=None, ge=16, le=16384)
    """Picture height to ask for; null: the camera's own choice."""
    connect_timeout_s: float = Field(default=5.0, gt=0, le=120)
    """How long opening may take."""
    read_timeout_s: float = Field(default=3.0, gt=0, le=120)
    """How long it may be silent before it is opened again."""


class FileSource(Section):
    """A video file."""

    type: Literal["file"]
    """Which kind of source this is."""
    path: LocalPath
    """The video."""
    pace: Literal["own", "full"] = "own"
    """own: at the speed it was taken; full: as fast as it can be read."""
    loop: bool = False
    """Begin again at its end."""


class FolderSource(Section):
    """A folder of pictures: those in it, and each new one that a machine drops there."""

    type: Literal["folder"]
    """Which kind of source this is."""
    path: LocalPath
    """The folder; subfolders are read too."""
    watch: bool = True
    """After the last picture wait for new ones; false: end there."""
    existing: bool = True
    """Show the pictures that are there already, in order of name; false: new ones only."""
    loop: bool = False
    """Begin again after the last picture instead of waiting."""
    interval_s: float = Field(default=0.2, ge=0, le=3600)
    """Pause between two pictures."""


class PushedSource(Section):
    """Pictures that come with the triggers themselves, in their field `picture`; for `frames: every`."""

    type: Literal["pushed"]
    """Which kind of source this is."""


class PatternSource(Section):
    """A synthetic production line, for trying things out."""

    type: Literal["pattern"]
    """Which kind of source this is."""
    width_px: int = Field(default=640, ge=64, le=4096, multiple_of=2)
    """Picture width."""
    height_px: int = Field(default=480, ge=64, le=4096, multiple_of=2)
    """Picture height."""
    seed: int = Field(default=1, ge=0, lt=2**31)
    """Same seed, same parts and defects."""
    defect_share: float = Field(default=0.1, ge=0, le=1)
    """Share of parts with a defect."""


def _only_plugins(schema: dict[str, Any]) -> None:
    """Types that are installed here; a source of ours would otherwise fit twice in the JSON Schema."""
    plugins = source_types()[len(OWN_SOURCES) :]
    schema["enum" if plugins else "not"] = plugins or {}


class PluginSource(Section):
    """A source that an installed package provides through the entry-point group `linewatch.sources`."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(json_schema_extra=_only_plugins)
    """The entry point's name."""

    @model_validator(mode="before")
    @classmethod
    def _hide_secrets(cls, raw: Any, info: ValidationInfo) -> Any:
        return hide_secrets(raw, info)

    @property
    def options(self) -> dict[str, Any]:
        """Everything beside `type`; values of keys named like a secret are SecretStr."""
        return dict(self.model_extra or {})


def hide_secrets(raw: Any, info: ValidationInfo) -> Any:
    """A free mapping with every value whose key is named like a secret read as one, at any depth."""
    if isinstance(raw, list):
        return [hide_secrets(item, info) for item in raw]
    if not isinstance(raw, dict):
        return raw
    return {
        key: (
            value
            if isinstance(value, SecretStr)
            else read_secret(value, info)
            if isinstance(key, str) and SECRET_KEY.search(key)
            else hide_secrets(value, info)
        )
        for key, value in raw.items()
    }


OWN_SOURCES: dict[str, type[Section]] = {
    "rtsp": RtspSource,
    "webrtc": WebrtcSource,
    "usb": UsbSource,
    "file": FileSource,
    "folder": FolderSource,
    "pushed": PushedSource,
    "pattern": PatternSource,
}


@functools.cache
def installed(group: str) -> tuple[str, ...]:
    """Names in an entry-point group, sorted; asked once a process."""
    return tuple(sorted({point.name for point in entry_points(group=group)}))


def source_types() -> list[str]:
    """Every `type` that a source may have here."""
    return [*OWN_SOURCES, *(name for name in installed("linewatch.sources") if name not in OWN_SOURCES)]


def _kind(raw: Any) -> str | None:
    kind = raw.get("type") if isinstance(raw, dict) else getattr(raw, "type", None)
    if not isinstance(kind, str):
        return None
    if kind in OWN_SOURCES:
        return kind
    return "plugin" if kind in installed("linewatch.sources") else None


SourceSettings = Annotated[
    Annotated[RtspSource, Tag("rtsp")]
    | Annotated[WebrtcSource, Tag("webrtc")]
    | Annotated[UsbSource, Tag("usb")]
    | Annotated[FileSource, Tag("file")]
    | Annotated[FolderSource, Tag("folder")]
    | Annotated[PushedSource, Tag("pushed")]
    | Annotated[PatternSource, Tag("pattern")]
    | Annotated[PluginSource, Tag("plugin")],
    Discriminator(_kind),
]
"""A camera's source; `type` says which."""
