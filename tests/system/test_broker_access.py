"""Who may do what at the broker, and TLS: the example ACL file and the settings of the config file hold."""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from config.services import EventsSettings
from config.settings import Settings
from stream import leftovers, standing
from stream.bridges.process import Bridge
from stream.broker import Endpoint, RunFile, endpoint_of
from stream.commands import events as events_command
from stream.consumer import Consumer
from stream.doctor import services
from stream.events import Event
from stream.inbox import Inbox
from stream.outbox import Outbox
from stream.probe import probe_broker
from stream.publisher import Publisher, explain
from stream.status import StatusBoard
from tests.bridgeline import settings_with
from tests.brokers import (
    KEYS,
    SERVERS,
    SERVERS_FROM_7,
    check_complete,
    facts,
    published,
    publishing,
    until,
)
from tests.clusters import PASSWORD, cluster, server
from tests.ports import free_port
from tests.system.test_inbox import reading
from tests.webhook_peer import SECRET, Peer

ACL = Path(__file__).parents[2] / "deploy/broker/acl.example"
USERS = ("linewatch", "mes", "plc", "setter", "bridge")
PASSWORDS = {name: f"change-me-{n}" for n, name in enumerate(USERS, 1)}


async def take_up_the_example(client: Redis) -> None:
    for line in ACL.read_text().splitlines():
        if not line.startswith("user default"):
            await client.execute_command("ACL", "SETUSER", *line.split()[1:])


def as_user(url: str, name: str) -> Endpoint:
    return Endpoint(url, name, PASSWORDS[name])


@pytest_asyncio.fixture(params=SERVERS)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """Of a server that has the file as its `aclfile`, and beside it somebody who can start and stop it."""
    users = tmp_path / "users.acl"
    admin = f"user default on >{PASSWORD} ~* &* +@all"
    users.write_text(ACL.read_text().replace("user default off", admin))
    async with server(tmp_path / "broker", request.param(), f"aclfile {users}") as running:
        yield f"redis://127.0.0.1:{running.port}/0"


async def filled(endpoint: Endpoint, folder: Path, n: int) -> list[Event]:
    outbox = Outbox(folder / "outbox.db")
    async with publishing(
        Publisher(outbox, endpoint.client, KEYS, maxlen=10_000, max_age_s=1e6)
    ) as publisher:
        put = outbox.put(facts(n), ("events", "verdicts"))
        await published(publisher, outbox)
        assert publisher.state.error is None
    outbox.close()
    return put


async def use_everything(url: str, folder: Path) -> None:
    """What the line does at a broker, and a subscriber, each as its own user."""
    ours = as_user(url, "linewatch")
    put = await filled(ours, folder, 50)
    taken: list[str] = []

    async def take(entry: str, fields: dict[str, str]) -> bool:
        taken.append(entry)
        return True

    async with as_user(url, "plc").client() as plc, as_user(url, "setter").client() as setter:
        await plc.xadd(KEYS.triggers, {"part_id": b"\xff"})
        await plc.xadd(KEYS.triggers, {"part_id": "a"})
        await setter.xadd(KEYS.commands, {"command": "enable"})
        for key in (KEYS.triggers, KEYS.commands):
            inbox = Inbox(ours.client, key, KEYS.dead, take)
            async with reading(inbox):
                before = len(taken)
                await until(lambda: len(taken) > before)  # noqa: B023
            await inbox.finish()
        board = StatusBoard(ours.client, KEYS, lambda: {"top": {"ready": 1}})
        async with ours.client() as client:
            await board.write(client)
            await board.beat(client)
        assert await plc.hget(KEYS.status("top"), "ready") == b"1"
        assert await plc.get(KEYS.heartbeat) == b"1"
        assert len(await plc.xread({KEYS.verdicts: "0"})) == 1
        assert await board.cleared()
    async with ours.client() as client:
        await board.write(client)
        await client.set(KEYS.heartbeat, "1")
    await use_a_bridge("mes", as_user(url, "bridge"), ours, folder)
    await use_a_bridge("beside", ours, ours, folder)  # as `run` starts one, with its own login
    await use_the_commands(ours, folder)
    async with as_user(url, "mes").client() as mes:
        consumer = Consumer(mes, KEYS.events, "mes", until_idle=True)
        check_complete([event async for event in consumer], put)
        (group,) = [group for group in await mes.xinfo_groups(KEYS.events) if group["name"] == b"mes"]
        assert group["consumers"] == 0, "it may leave its group"
        await mes.xreadgroup("mes", "gone", {KEYS.events: ">"})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(leftovers, "IDLE_MS", 0)
            await leftovers.remove_leftovers(mes, KEYS.events, "mes")
        (group,) = [group for group in await mes.xinfo_groups(KEYS.events) if group["name"] == b"mes"]
        assert group["consumers"] == 0, "it may take out what others left there"


async def use_the_commands(ours: Endpoint, folder: Path) -> None:
    """`linewatch status` and `linewatch events` on the line's own machine, by the line's own config."""
    at = RunFile(ours, KEYS.events, 1)
    said = await standing.ask_at(at, ["top"], all_cameras=False)
    assert said.running and said.cameras["top"].ready
    # Who may not look for cameras asks for those that it knows.
    assert await standing.ask_at(at, ["top"]) == said
    for last in (None, 3):
        args = argparse.Namespace(group=None, follow=False, last=last)
        async with ours.client() as client:
            told = [event async for event in events_command._events(client, KEYS.events, args)]
        assert len(told) == (last or 50)


async def use_a_bridge(name: str, theirs: Endpoint, ours: Endpoint, folder: Path) -> None:
    """It reads events and status, asks for a part, reports; the line reads its report."""
    with Peer() as peer:
        settings = settings_with(folder, f'{name}: {{type: webhook, url: "{peer.url}", secret: "{SECRET}"}}')
        bridge = Bridge(name, settings, theirs, KEYS.events)
        stop = asyncio.Event()
        task = asyncio.create_task(bridge.run(stop))
        await until(
            lambda: bridge.report.delivered == 50 and bridge.link.alive and bridge.link.status("top") != {}
        )
        await bridge.link.trigger("top", "part", "")
        asked = asyncio.create_task(bridge.link.ask("enable", "top", ""))
        async with ours.client() as client:
            while await client.get(KEYS.bridge_report(name)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        asked.cancel()
        stop.set()
        await task


async def test_the_example_acl_is_enough_for_everybody(url: str, tmp_path: Path) -> None:
    await use_everything(url, tmp_path)


@pytest.mark.parametrize("binary", SERVERS_FROM_7)
async def test_it_is_enough_in_a_cluster(binary: pytest.FixtureRequest, tmp_path: Path) -> None:
    async with cluster(tmp_path, binary()) as nodes:  # type: ignore[operator]
        for node in nodes.nodes:
            await take_up_the_example(node.client)
        await use_everything(nodes.endpoint.url, tmp_path)


@pytest.mark.parametrize("name", ["mes", "plc"])
async def test_a_subscriber_and_a_gateway_may_give_no_commands(url: str, name: str) -> None:
    async with as_user(url, name).client() as client:
        for key in (KEYS.commands, *([KEYS.triggers] if name == "mes" else [KEYS.events])):
            with pytest.raises(NoPermissionError):
                await client.xadd(key, {"command": "disable", "camera": "top"})


async def test_check_and_doctor_name_what_the_user_may_not_do_and_leave_nothing_behind(
    url: str, tmp_path: Path
) -> None:
    def settings(name: str, bridges: dict[str, Any]) -> Settings:
        outbox = {"path": tmp_path / "outbox.db"}
        events = {"url": url, "username": name, "password": PASSWORDS[name], "outbox": outbox}
        told = {"version": 1, "site": "test", "line": "line-1", "events": events, "bridges": bridges}
        return Settings.model_validate(told)

    async def said(name: str, **bridges: Any) -> str:
        answer = await probe_broker(settings(name, bridges))
        found = await services.broker(settings(name, bridges), running=False)
        assert answer.ok == (found.level == "ok") and found.text.startswith(answer.text)
        return answer.text

    async with Endpoint(url, password=PASSWORD).client() as admin:
        assert await said("linewatch") == f"{url} answers"
        forbids = f"{url}: the broker's ACL forbids a command that is needed: "
        assert (await said("mes")).startswith(f"{forbids}WATCH {KEYS.events}: ")
        await admin.execute_command("ACL", "SETUSER", "linewatch", "-xadd")
        assert (await said("linewatch")).startswith(f"{forbids}XADD {KEYS.events}: ")
        await admin.execute_command("ACL", "SETUSER", "linewatch", "+xadd")
        bridge = {"type": "webhook", "url": "http://127.0.0.1:1/", "secret": 16 * "s"}
        assert await said("linewatch", mes=bridge) == f"{url} answers"
        await admin.execute_command("ACL", "SETUSER", "linewatch", "-hgetall")
        assert (await said("linewatch", mes=bridge)).startswith(f"{forbids}HGETALL {KEYS.status('-')}: ")
        for elsewhere in ({}, {"mes": bridge | {"autostart": False}}):
            assert await said("linewatch", **elsewhere) == f"{url} answers"
        await admin.execute_command("ACL", "SETUSER", "linewatch", "+hgetall")
        await admin.execute_command("ACL", "SETUSER", "linewatch", "resetkeys", "~linewatch:*s")
        assert (await said("linewatch")).startswith(f"{forbids}XADD {KEYS.dead}: ")
        await admin.execute_command("ACL", "SETUSER", "linewatch", "~linewatch:*")
        await admin.config_set("maxmemory", 1)
        assert f"{url}: the broker has no memory left; raise events.embedded." in await said("linewatch")
        assert await admin.keys() == []


# -- TLS ---------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str, issuer: str | None = None) -> None:
    """NAME.pem and NAME.key for 127.0.0.1, signed by ISSUER or itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer, signed_by = key, subject
    if issuer is not None:
        loaded = serialization.load_pem_private_key((folder / f"{issuer}.key").read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signer = loaded
        signed_by = x509.load_pem_x509_certificate((folder / f"{issuer}.pem").read_bytes()).subject
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(signed_by, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def tls_lines(folder: Path, port: int) -> tuple[str, ...]:
    """Of a server that asks for certificates of the authority `ca`."""
    return (
        f"tls-port {port}",
        f"tls-cert-file {folder}/server.pem",
        f"tls-key-file {folder}/server.key",
        f"tls-ca-cert-file {folder}/ca.pem",
        "tls-auth-clients yes",
    )


@pytest.mark.debian
async def test_tls_with_our_own_certificate_delivers_and_another_authority_is_named(tmp_path: Path) -> None:
    for name, issuer in (("ca", None), ("server", "ca"), ("client", "ca"), ("stranger", None)):
        certificate(tmp_path, name, issuer)
    port = free_port()
    tls = {"cert_file": tmp_path / "client.pem", "key_file": tmp_path / "client.key"}

    def settings(authority: str) -> EventsSettings:
        told = {"url": f"rediss://localhost:{port}/0", "password": PASSWORD}
        return EventsSettings.model_validate(told | {"tls": tls | {"ca_file": tmp_path / f"{authority}.pem"}})

    async with server(tmp_path / "broker", Path("/usr/bin/redis-server"), *tls_lines(tmp_path, port)):
        put = await filled(endpoint_of(settings("ca")), tmp_path, 20)
        async with endpoint_of(settings("ca")).client() as client:
            check_complete([e async for e in Consumer(client, KEYS.events, "mes", until_idle=True)], put)
        outbox = Outbox(tmp_path / "second.db")
        publisher = Publisher(outbox, endpoint_of(settings("stranger")).client, KEYS, maxlen=100)
        async with publishing(publisher):
            outbox.put(facts(1))
            await until(lambda: "certificate" in (publisher.state.error or ""))
        outbox.close()


@pytest.mark.debian
async def test_certificates_that_were_renewed_on_the_disk_count_when_we_connect_again(tmp_path: Path) -> None:
    """The heartbeat stayed away until the line was started again."""
    port = free_port()
    tls = {"cert_file": "client.pem", "key_file": "client.key", "ca_file": "ca.pem"}
    told = {"url": f"rediss://localhost:{port}/0", "password": PASSWORD}
    files = {key: tmp_path / name for key, name in tls.items()}
    async with endpoint_of(EventsSettings.model_validate(told | {"tls": files})).client() as client:
        for turn in range(2):
            for name, issuer in (("ca", None), ("server", "ca"), ("client", "ca")):
                certificate(tmp_path, name, issuer)
            lines = tls_lines(tmp_path, port)
            async with server(tmp_path / f"broker-{turn}", Path("/usr/bin/redis-server"), *lines):
                with contextlib.suppress(RedisError):
                    await client.ping()  # finds that the connection has ended
                assert await client.ping()


async def test_a_certificate_or_key_that_cannot_be_used_is_named_and_nobody_is_asked_for_a_passphrase(
    tmp_path: Path,
) -> None:
    """It was called the broker's, and at a terminal the line waited for somebody to write a passphrase."""
    certificate(tmp_path, "client")
    key = serialization.load_pem_private_key((tmp_path / "client.key").read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"passphrase")
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "client.key").write_bytes(key.private_bytes(pem, pkcs8, secret))
    ours = {"cert_file": tmp_path / "client.pem", "key_file": tmp_path / "client.key"}
    for tls, said in (
        (ours, f"the key {ours['key_file']} is encrypted, expected one without a passphrase"),
        (
            {"ca_file": "none.pem"},
            "the certificate authority none.pem can't be read: No such file or directory",
        ),
    ):
        for url in ("rediss://localhost:1", "rediss+sentinel://localhost:1/mine"):
            events = EventsSettings.model_validate({"url": url, "tls": tls})
            async with endpoint_of(events).client() as client:
                with pytest.raises(RedisError) as refused:
                    await client.ping()
            assert explain(refused.value) == said
