"""An OPC UA server: a node per camera, events, methods. The tree stands in deploy/bridges.md.

    bridges:
      scada:
        type: opcua
        listen: "10.0.20.5:4840"
        tls: {cert_file: /etc/linewatch/opcua.der, key_file: /etc/linewatch/opcua.pem}
        users_file: users.yaml

With `tls` only encrypted endpoints are offered. Without it the server listens on loopback, or says that it is
insecure. Everybody who is let in may read; methods are for the roles operator and admin.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from config.fields import LocalPath, Name, Section
from config.services import TlsServerSettings, is_loopback, listen_address

from .sink import BridgeOptions, Key, Line, Wrong

if TYPE_CHECKING:
    from .opcua_server import OpcUaSink

NEEDS = {"asyncua": "linewatch[opcua]"}

Role = Literal["viewer", "operator", "admin"]


class ClientOptions(Section):
    """A client that is known by its certificate."""

    cert_file: LocalPath
    """Its certificate, DER or PEM."""
    role: Role = "viewer"
    """viewer reads, operator and admin call methods."""


class Options(BridgeOptions):
    """Keys of a bridge of type opcua."""

    listen: Annotated[str, AfterValidator(listen_address)] = "127.0.0.1:4840"
    """ADDRESS:PORT of the server."""
    tls: TlsServerSettings | None = None
    """Our application certificate (DER or PEM) and its key (PEM); its URI is urn:linewatch:SITE:LINE."""
    users_file: LocalPath | None = None
    """Users with passwords, the same file as the page's (`linewatch users`)."""
    clients: dict[Name, ClientOptions] = Field(default_factory=dict, max_length=256)
    """Clients that are let in by their certificate."""
    handshake: Literal["none", "client"] = "none"
    """client: each event waits, and is repeated, until a client has called Acknowledge with its ResultId."""
    insecure: bool = False
    """true serves others without encryption and without users: for trying out only."""

    @model_validator(mode="after")
    def _safe_for_others(self) -> Self:
        known = self.users_file is not None or bool(self.clients)
        if known and self.tls is None:
            raise PydanticCustomError(
                "opcua", "users_file and clients need tls: passwords are not sent plainly"
            )
        if not is_loopback(self.listen) and not self.insecure and not (self.tls and known):
            raise PydanticCustomError(
                "opcua",
                "others reach {listen}: give it tls, and a users_file or clients, or listen on 127.0.0.1",
                {"listen": self.listen},
            )
        return self

    @property
    def alone(self) -> tuple[Key, str]:
        """The address."""
        return ("listen",), self.listen


def check(options: Options, site: str, line: str) -> Iterator[Wrong]:
    """Certificates, keys and users that the server would not start with, or that no client would trust."""
    from ..web.users import Users, UsersError
    from .certificates import check_in_time, named_uris
    from .sink import PeerAway

    if options.tls is not None:
        yield from (wrong := list(wrong_certificate(options.tls)))
        ours = application_uri(site, line)
        if not wrong and ours not in named_uris(options.tls.cert_file):
            yield Wrong(("tls", "cert_file"), f"{options.tls.cert_file} does not name the URI {ours}")
    for name, client in options.clients.items():
        try:
            check_in_time(client.cert_file)
        except PeerAway as error:
            yield Wrong(("clients", name, "cert_file"), str(error))
    if options.users_file is not None:
        try:
            Users(options.users_file)
        except UsersError as error:
            yield Wrong(("users_file",), str(error))


def wrong_certificate(tls: TlsServerSettings) -> Iterator[Wrong]:
    """What is wrong with our certificate and its key, so that no client could connect. Raises PeerAway when
    the file goes away meanwhile.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from .certificates import read_certificate, wrong_pair

    yield from (wrong := list(wrong_pair("tls", tls.cert_file, tls.key_file)))
    if not wrong and not isinstance(read_certificate(tls.cert_file).public_key(), RSAPublicKey):
        text = f"{tls.cert_file} is for another kind of key than RSA, which OPC UA needs"
        yield Wrong(("tls", "cert_file"), text)


def application_uri(site: str, line: str) -> str:
    """By which clients know this server; its certificate names it."""
    return f"urn:linewatch:{site}:{line}"


def build(options: Options, line: Line) -> "OpcUaSink":
    """The server starts with its `run`."""
    from .opcua_server import OpcUaSink

    return OpcUaSink(options, line)
