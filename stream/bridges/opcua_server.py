"""The OPC UA bridge's server side: start, status, events."""

import asyncio
import contextlib
import logging
import time

from asyncua import Server, ua
from asyncua.crypto.security_policies import SecurityPolicyFactory, SecurityPolicyNone

from ..events import Event
from ..stamps import Stamps, stamps
from .certificates import read_certificate, read_private_key
from .opcua import Options, application_uri, wrong_certificate
from .opcua_access import Doorkeeper, NoRequests, OwnSessions, Rules, in_time
from .opcua_methods import add_acknowledge, add_methods
from .opcua_tree import NAMESPACE, CameraNodes, LineNodes, ResultEvents
from .report import verdict_late_s
from .sink import Answer, Line, PeerAway
from .vanished import end_vanished

log = logging.getLogger(__name__)

_ENCRYPTED = [
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
]

_LONGEST_SESSION_MS = 60_000
_REPEAT_EVERY_S = 1.0


class OpcUaSink:
    """A Sink. An event is out when the variables hold it and every subscription has it in its queue: OPC UA
    has no acknowledgement by the reader. With `handshake: client` a client calls a method instead.
    """

    def __init__(self, options: Options, line: Line) -> None:
        self._options, self._line = options, line
        self._server: Server | None = None
        self._nodes: dict[str, CameraNodes] = {}
        self._events: ResultEvents | None = None
        self._up = asyncio.Event()
        # Events that wait for their acknowledgement, by id: at most one a camera.
        self._waiting: dict[str, asyncio.Event] = {}
        tls = options.tls
        # Certificates and keys, and what they were like when they were read last.
        self._files = [client.cert_file for client in options.clients.values()]
        self._files += [] if tls is None else [tls.cert_file, tls.key_file]
        self._read: Stamps = []

    @property
    def port(self) -> int:
        """The port that is listened on, for `listen: …:0`; valid while `run` serves."""
        assert self._server is not None and self._server.bserver is not None
        return int(self._server.bserver._server.sockets[0].getsockname()[1])

    async def started(self) -> None:
        """Returns when clients can connect."""
        await self._up.wait()

    async def run(self) -> None:
        await self._check_address()
        server = await self._make()
        try:
            line_nodes = await self._fill(server)
            await self._start(server)
            end_vanished(server.bserver._server.sockets)
            self._server = server
            self._up.set()
            self._line.peer_is_there()
            while True:
                await self._line.changed()
                await self._look(line_nodes)
                await self._renew(server)
        finally:
            self._up.clear()
            await _stop(server)

    async def _check_address(self) -> None:
        """Raises PeerAway when it is taken, before the server is built, which costs a second of CPU."""
        host, _, port = self._options.listen.rpartition(":")
        loop = asyncio.get_running_loop()
        try:
            probe = await loop.create_server(
                asyncio.Protocol, host.strip("[]"), int(port), start_serving=False
            )
        except OSError as error:
            raise self._cant_listen(error) from None
        probe.close()

    def _cant_listen(self, error: OSError) -> PeerAway:
        why = error.strerror or type(error).__name__
        return PeerAway(f"OPC UA can't listen on {self._options.listen}: {why}")

    async def _make(self) -> Server:
        """Raises PeerAway for certificates and users that can't be used."""
        options = self._options
        server = Server(iserver=OwnSessions(user_manager=Doorkeeper(options)))
        self._read_certificates(server)
        await server.init()
        # A client that vanished is forgotten after so long, with what waited for it.
        server.iserver.max_session_timeout_ms = _LONGEST_SESSION_MS
        server.set_endpoint(f"opc.tcp://{options.listen}/linewatch")
        server.set_server_name("Linewatch")
        await server.set_application_uri(application_uri(self._line.site, self._line.line))
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity], Rules())
        if options.tls is not None:
            server.set_security_policy(_ENCRYPTED, Rules())
            server._policies.append(_only_to_look())
        server.set_certificate_validator(in_time)
        server.set_identity_tokens(self._tokens())
        return server

    def _read_certificates(self, server: Server) -> None:
        """Ours and our clients', as they are on the disk. Raises PeerAway when they can't be used."""
        self._read = stamps(self._files)
        tls = self._options.tls
        if tls is None:
            return
        if (wrong := next(wrong_certificate(tls), None)) is not None:
            raise PeerAway(wrong.text)
        server.iserver.user_manager.read_clients()
        # Not by asyncua's own readers: they go by the end of the file's name.
        server.iserver.certificate = read_certificate(tls.cert_file)
        server.iserver.private_key = read_private_key(tls.key_file)

    async def _renew(self, server: Server) -> None:
        """Certificates that were written anew count for who connects from now on; who is connected stays."""
        if stamps(self._files) == self._read:
            return
        try:
            self._read_certificates(server)
        except PeerAway as away:
            log.warning("%s; the OPC UA server goes on with the certificates that it has", away)
            return
        server.iserver.endpoints.clear()
        server._policies[:] = [_only_to_look()]  # in place: it is also the listening socket's
        await server._setup_server_nodes()
        log.info("the OPC UA server has read its certificates anew")

    def _tokens(self) -> list[type]:
        tokens: list[type] = []
        if self._options.users_file is not None:
            tokens.append(ua.UserNameIdentityToken)
        if self._options.clients:
            tokens.append(ua.X509IdentityToken)
        # A client that is known by its channel's certificate names no user.
        if self._options.clients or not tokens:
            tokens.append(ua.AnonymousIdentityToken)
        return tokens

    async def _fill(self, server: Server) -> LineNodes:
        """The tree; its node ids are texts that stay the same: `ns=N;s=top.Verdict`."""
        index = await server.register_namespace(NAMESPACE)
        line_nodes = await LineNodes.make(server, index, self._line)
        await add_acknowledge(index, line_nodes.node, self._acknowledge)
        for camera in self._options.among(self._line.cameras):
            self._nodes[camera] = await CameraNodes.make(server, index, line_nodes.cameras, camera)
            await add_methods(index, self._nodes[camera].node, self._line, camera)
        self._events = await ResultEvents.make(server, index, {c: n.node for c, n in self._nodes.items()})
        return line_nodes

    async def _start(self, server: Server) -> None:
        try:
            await server.start()
        except OSError as error:
            raise self._cant_listen(error) from None

    async def _look(self, line_nodes: LineNodes) -> None:
        alive = self._line.alive
        await line_nodes.show(alive)
        for camera, nodes in self._nodes.items():
            await nodes.status(self._line.status(camera), alive)

    async def deliver(self, event: Event) -> None:
        await self._up.wait()
        assert self._events is not None
        if (nodes := self._nodes.get(event.camera)) is not None:
            late = verdict_late_s(event, time.time(), self._line.verdict_within_ms) > 0
            results = "part" if event.camera in self._line.triggered else "defect"
            await nodes.event(event, is_result=event.kind == results, late=late)
        await self._events.send(event)
        if self._options.handshake == "client":
            self._line.out(event)
            await self._acknowledged(event)

    async def _acknowledged(self, event: Event) -> None:
        """Repeated for a client that came later, or lost its subscription."""
        taken = self._waiting.setdefault(event.id, asyncio.Event())
        try:
            while not taken.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(taken.wait(), _REPEAT_EVERY_S)
                    return
                await self._up.wait()
                assert self._events is not None
                await self._events.send(event)
        finally:
            del self._waiting[event.id]

    def _acknowledge(self, event_id: str) -> Answer:
        if (taken := self._waiting.get(event_id)) is None:
            return Answer("refused", "no event with this ResultId waits for its acknowledgement")
        taken.set()
        return Answer("done", "the event is acknowledged")


def _only_to_look() -> SecurityPolicyFactory:
    """Channels without security of a server that has some: for who asks which ones it has."""
    mode = ua.MessageSecurityMode.None_
    return SecurityPolicyFactory(SecurityPolicyNone, mode, permission_ruleset=NoRequests())


async def _stop(server: Server) -> None:
    """asyncua leaves the tasks of sessions whose client has vanished; they are ended with the server."""
    for session in list(server.iserver._external_sessions.values()):
        await session.close_session()
    await server.stop()
