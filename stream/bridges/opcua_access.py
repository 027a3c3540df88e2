"""Who may use the OPC UA server, and for what: asyncua asks here."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from asyncua.crypto.uacrypto import der_from_x509
from asyncua.server.internal_server import InternalServer
from cryptography import x509

from ..web.users import Users, UsersError
from .certificates import read_certificate, why_out_of_time
from .opcua import Options, Role
from .sink import PeerAway

# After a wrong password nobody's password is looked at for so long: each look costs 50 ms of CPU.
_PAUSE_S = 0.5
_CALL = ua.NodeId(ua.ObjectIds.CallRequest_Encoding_DefaultBinary)


@dataclass
class Guest(User):  # type: ignore[misc]  # asyncua is untyped here
    """Who is connected. asyncua's own role allows reading and calling; ours, as it is at that moment, says
    what may be done: connections stay for months, and users are removed meanwhile.
    """

    role: UserRole = UserRole.User
    # Never shown: it holds the password's hash, and asyncua logs who comes in.
    role_now: Callable[[], Role | None] = field(default=lambda: None, repr=False)


class Rules(SimpleRoleRuleset):  # type: ignore[misc]
    """Methods are for operators."""

    def check_validity(self, user: User | None, action_type_id: Any, body: Any) -> bool:
        """asyncua's question before each request of a session."""
        role = user.role_now() if isinstance(user, Guest) else None
        if role is None or (action_type_id == _CALL and role not in ("operator", "admin")):
            return False
        return bool(super().check_validity(user, action_type_id, body))


class NoRequests(SimpleRoleRuleset):  # type: ignore[misc]
    """For a channel without security on a server that has some. asyncua opens one for whoever asks, believes
    the certificate that is shown there, and asks nobody what may be done: here nothing may.
    """

    def check_validity(self, user: User | None, action_type_id: Any, body: Any) -> bool:
        """asyncua's question before each request of a session; looking for endpoints needs no session."""
        return False


class OwnSessions(InternalServer):  # type: ignore[misc]
    """A session belongs to the channel that it was made in. asyncua gives it to any other one that names its
    number, which is easily guessed, and looks at the proof afterwards: a stranger would call methods as the
    session's user. A client that lost its connection is told that its session is gone, and makes a new one.
    """

    def lookup_external_session(self, auth_token: ua.NodeId) -> None:
        """asyncua's question for a session that another channel has; there is none."""
        return None


class Doorkeeper:
    """asyncua's user manager. Raises PeerAway for files that can't be used."""

    def __init__(self, options: Options) -> None:
        self._open = options.users_file is None and not options.clients
        self._users = None if options.users_file is None else _users(options.users_file)
        self._options = options
        self._clients: dict[bytes, tuple[x509.Certificate, str, Role]] = {}
        self.read_clients()
        self._not_before_s = 0.0

    def read_clients(self) -> None:
        """Their certificates, as they are on the disk. Raises PeerAway, and those read before hold then."""
        known = {}
        for name, client in self._options.clients.items():
            certificate = read_certificate(client.cert_file)
            known[der_from_x509(certificate)] = (certificate, name, client.role)
        self._clients = known

    def get_user(
        self,
        iserver: Any,
        username: str | None = None,
        password: str | None = None,
        certificate: bytes | None = None,
    ) -> Guest | None:
        """By password; else by the certificate that the channel or the token proved; else, where nobody is
        named in the config, anybody. None: not let in. Raises ServiceError for one that has expired.
        """
        if username is not None:
            return self._with_password(username, password or "")
        if certificate is not None and certificate in self._clients:
            known, name, role = self._clients[certificate]
            _check_in_time(known)  # asyncua asks `in_time` only for what a client names when it connects
            return Guest(name=name, role_now=lambda: role)
        return Guest(name="anonymous", role_now=lambda: "operator") if self._open else None

    def _with_password(self, name: str, password: str) -> Guest | None:
        if self._users is None or time.monotonic() < self._not_before_s:
            return None
        if self._users.password_role(name, password) is None:
            self._not_before_s = time.monotonic() + _PAUSE_S
            return None
        mark = self._users.mark_of(name)
        return Guest(name=name, role_now=functools.partial(self._users.role_now, name, mark))


def _users(path: Path) -> Users:
    try:
        return Users(path)
    except UsersError as error:
        raise PeerAway(str(error)) from None


async def in_time(certificate: x509.Certificate, description: Any) -> None:
    """asyncua's certificate validator: a client whose certificate has expired is told so."""
    _check_in_time(certificate)


def _check_in_time(certificate: x509.Certificate) -> None:
    if why_out_of_time(certificate) is not None:
        raise ServiceError(ua.StatusCodes.BadCertificateTimeInvalid)
