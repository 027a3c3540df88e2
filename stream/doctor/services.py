"""Ports, users, certificates, and the broker."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from redis.exceptions import RedisError, ResponseError

from config.services import WebSettings
from config.settings import Settings

from ..bridges.checks import wrong_bridges
from ..broker import BrokerError, Endpoint, endpoint_of, server_binary
from ..broker_version import check_rights, check_version
from ..keys import Keys
from ..links import Links
from ..publisher import explain
from ..running import Starting, where
from ..web.errors import ListenError
from ..web.server import check_listen, check_tls
from ..web.users import Users, UsersError
from .findings import Finding, failed, ok, warning

_EXPIRES_SOON_DAYS = 30


def page(web: WebSettings, *, running: bool) -> Iterator[Finding]:
    """The page's address and who may use it; `running`: a Linewatch of this config holds the port."""
    try:
        check_listen(web.listen, web.users_file, web.insecure)
        if web.users_file is not None:
            Users(web.users_file)
    except (ListenError, UsersError) as error:
        yield failed("web", str(error))
    yield _port(web, running=running)
    if web.tls is not None:
        found = certificate(web.tls.cert_file, datetime.now(UTC))
        yield found if found.level == "failed" else _with_key(found, web.tls.cert_file, web.tls.key_file)
    if web.webrtc.port_range is not None:
        yield udp_ports(*web.webrtc.port_range)


def _port(web: WebSettings, *, running: bool) -> Finding:
    try:
        _bind(web.host, web.port, socket.SOCK_STREAM)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES) and running:
            return ok("web.listen", f"{web.listen}, held by the Linewatch that runs")
        if error.errno == errno.EACCES:
            return warning(
                "web.listen",
                f"{web.listen}: ports below 1024 need a right that this user lacks and our systemd unit has; "
                "where another starts the line choose one from 1024 on",
            )
        mend = {
            errno.EADDRINUSE: "another program holds it (`ss -ltnp` names it); stop that, or choose another",
            errno.EADDRNOTAVAIL: "this machine has no such address; choose one of `ip address`, or 0.0.0.0",
        }.get(error.errno or 0, f"{error.strerror or error}; choose another")
        return failed("web.listen", f"{web.listen}: {mend}")
    return ok("web.listen", f"{web.listen} is free")


def udp_ports(first: int, last: int) -> Finding:
    """Each viewer of live video takes one."""
    free = 0
    for port in range(first, last + 1):
        with contextlib.suppress(OSError):
            _bind("0.0.0.0", port, socket.SOCK_DGRAM)
            free += 1
    told = f"{free} of {last - first + 1} UDP ports from {first} to {last} are free"
    if not free:
        return failed("web.webrtc.udp_ports", f"{told}: no live video; choose other ports")
    return ok("web.webrtc.udp_ports", told)


def certificate(file: Path, now: datetime) -> Finding:
    """How long the page's certificate is good for: nobody else on an island will say it."""
    from cryptography import x509

    try:
        ends = x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc
    except OSError as error:
        return failed("web.tls", f"{file} can't be read: {error.strerror}; check web.tls.cert_file")
    except ValueError:
        return failed("web.tls", f"{file} holds no certificate in PEM form; check web.tls.cert_file")
    days = (ends - now).days
    told = f"{file} is good until {ends:%Y-%m-%d}"
    if days < 0:
        return failed("web.tls", f"{file} ended on {ends:%Y-%m-%d}: browsers refuse the page; renew it")
    return warning("web.tls", f"{told}; renew it") if days < _EXPIRES_SOON_DAYS else ok("web.tls", told)


def bridges(settings: Settings) -> Iterator[Finding]:
    """Their files and addresses; `linewatch check` says the same with the line of each."""
    wrong: dict[str, list[str]] = {name: [] for name in settings.bridges}
    for name, mistake in wrong_bridges(settings):
        wrong[name].append(f"{'.'.join(map(str, mistake.key))}: {mistake.text}")
    for name, told in wrong.items():
        bad = failed if settings.bridges[name].autostart else warning
        yield from [bad(f"bridges.{name}", text) for text in told] or [
            ok(f"bridges.{name}", "its files are right")
        ]


async def broker(settings: Settings, *, running: bool) -> Finding:
    """Does it answer, is it new enough, and does somebody else already speak for this line?"""
    events = settings.events
    try:
        if events.url != "embedded":
            return await _ask(endpoint_of(events), settings, running=running)
        if not running:
            return ok("broker", f"embedded, by {server_binary().name}, started with the line")
        return await _ask(where(settings).endpoint, settings, running=True)
    except Starting as starting:
        return ok("broker", f"embedded; {starting}")
    except BrokerError as error:
        return failed("broker", str(error))


async def _ask(endpoint: Endpoint, settings: Settings, *, running: bool) -> Finding:
    keys = Keys(settings.events.stream_key(settings.site, settings.line))
    links = Links(endpoint.client(timeout_s=3.0), check_version)
    try:
        client = await links.of(keys.heartbeat)
        found = await check_version(client)
        await check_rights(links, settings)
        alive = await client.exists(keys.heartbeat)
    except (RedisError, OSError) as error:
        mend = "" if isinstance(error, ResponseError) else "; check events.url, and that it runs"
        return failed("broker", f"{endpoint.url}: {explain(error)}{mend}")
    finally:
        await links.aclose()
    if alive and not running:
        return failed(
            "broker",
            f"{endpoint.url}: another Linewatch already speaks for {keys.events}; give this one another "
            "site or line",
        )
    return ok("broker", f"{endpoint.url} answers{f', {found}' if found else ''}")


def _with_key(found: Finding, cert_file: Path, key_file: Path) -> Finding:
    """What was found of a certificate; unless the page would not start with this key."""
    try:
        check_tls(cert_file, key_file)
    except ListenError as error:
        told = str(error).removeprefix("web.tls: ").removesuffix(".")
        return failed("web.tls", f"{told}; check web.tls.key_file")
    return found


def _bind(host: str, port: int, kind: int) -> None:
    """Raises OSError where nobody could listen; the port is let go at once."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM and os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
