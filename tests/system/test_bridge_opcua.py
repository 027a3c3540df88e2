"""The OPC UA bridge and a real client: tree, events, methods, users, certificates."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Client, Node, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.uaerrors import BadUserAccessDenied

from stream.bridges.opcua_server import OpcUaSink
from stream.bridges.opcua_tree import NAMESPACE
from stream.bridges.process import Bridge
from stream.web import users
from tests.bridgeline import CONFIG, BridgeLine, asks_whether_its_peers_are_there, pending, running
from tests.brokers import until, valkey
from tests.certificates import Certificate, make_certificate

OPEN = 'scada: {type: opcua, listen: "127.0.0.1:0"}'
CLIENT_URI = "urn:example:client"


@pytest_asyncio.fixture
async def line(tmp_path: Path) -> AsyncIterator[BridgeLine]:
    async with valkey(tmp_path / "broker") as broker, BridgeLine(broker, tmp_path) as line:
        yield line


async def address_of(bridge: Bridge) -> str:
    sink = bridge.sink
    assert isinstance(sink, OpcUaSink)
    await sink.started()
    return f"opc.tcp://127.0.0.1:{sink.port}/linewatch"


@contextlib.asynccontextmanager
async def client_of(bridge: Bridge) -> AsyncIterator[Client]:
    async with Client(await address_of(bridge)) as client:
        yield client


async def node(client: Client, name: str) -> Node:
    return client.get_node(ua.NodeId(name, await client.get_namespace_index(NAMESPACE)))


async def value(client: Client, name: str) -> Any:
    return await (await node(client, name)).read_value()


async def until_is(client: Client, name: str, wanted: object) -> None:
    while await value(client, name) != wanted:  # noqa: ASYNC110 - a client polls
        await asyncio.sleep(0.02)


async def call(client: Client, name: str, *values: Any) -> Any:
    parent = await node(client, name.partition(".")[0])
    return await parent.call_method((await node(client, name)).nodeid, *values)


class Seen:
    """A subscription's handler."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def event_notification(self, event: Any) -> None:
        self.events.append(event)


async def subscribed(client: Client) -> Seen:
    seen = Seen()
    subscription = await client.create_subscription(10, seen)
    index = await client.get_namespace_index(NAMESPACE)
    kind = await client.nodes.base_event_type.get_child(f"{index}:LinewatchResultEventType")
    await subscription.subscribe_events(client.nodes.server, kind)
    return seen


async def test_an_event_waits_for_the_client_that_acknowledges_it(line: BridgeLine) -> None:
    first, second = line.verdict("A-1"), line.verdict("A-2")
    told = OPEN.replace("}", ", handshake: client}")
    async with running(line, "scada", told) as bridge, line.broker.endpoint.client() as redis:
        async with client_of(bridge) as client:
            await until_is(client, "top.PartId", "A-1")
            assert await call(client, "Linewatch.Acknowledge", second.id) == [
                "refused",
                "no event with this ResultId waits for its acknowledgement",
            ]
            assert await call(client, "Linewatch.Acknowledge", first.id) == [
                "done",
                "the event is acknowledged",
            ]
            await until_is(client, "top.PartId", "A-2")
        assert (bridge.report.delivered, await pending(redis, "bridge-scada")) == (1, 1)
    async with running(line, "scada", told) as bridge, client_of(bridge) as client:
        seen = await subscribed(client)
        await until(lambda: len(seen.events) > 1)  # again and again
        assert {event.ResultId for event in seen.events} == {second.id}
        await call(client, "Linewatch.Acknowledge", second.id)
        await until(lambda: bridge.report.delivered == 1)


async def test_what_waits_of_a_camera_that_was_disabled_waits_for_the_client_too(line: BridgeLine) -> None:
    """It counted as delivered, and nobody had seen it."""
    opened, told = line.defect("side"), OPEN.replace("}", ", handshake: client}")
    disabled = CONFIG.replace("side: {", "side: {enabled: false, ")
    async with running(line, "scada", told, config=disabled) as bridge, client_of(bridge) as client:
        seen = await subscribed(client)
        await until(lambda: len(seen.events) > 0)
        assert (seen.events[0].ResultId, seen.events[0].Camera) == (opened.id, "side")
        assert bridge.report.delivered == 0
        assert (await call(client, "Linewatch.Acknowledge", opened.id))[0] == "done"
        await until(lambda: bridge.report.delivered == 1)


async def test_a_node_per_camera_says_what_the_line_says(line: BridgeLine) -> None:
    async with running(line, "scada", OPEN) as bridge, client_of(bridge) as client:
        await until_is(client, "Linewatch.Alive", True)
        await until_is(client, "top.Ready", True)
        assert await value(client, "top.OkCount") == 70_000
        beats = await value(client, "top.Heartbeat")
        await until_is(client, "top.Heartbeat", beats + 1)
        line.status["top"] |= {"ready": 0, "error_code": 2}
        await until_is(client, "top.ErrorCode", 2)
        assert not await value(client, "top.Ready")
        cameras = await node(client, "Cameras")
        names = [(await child.read_browse_name()).Name for child in await cameras.get_children()]
        assert names == ["top", "side"]
        line.status["top"] |= {"ready": 1}
        await until_is(client, "top.Ready", True)
        line.alive = False
        await until_is(client, "Linewatch.Alive", False)
        assert not await value(client, "top.Ready")
        beats = await value(client, "top.Heartbeat")
        await bridge.link.changed()
        assert await value(client, "top.Heartbeat") == beats
        with pytest.raises(ua.UaStatusCodeError):  # no client writes
            await (await node(client, "top.Ready")).write_value(True)


async def test_a_camera_that_the_line_has_no_more_is_not_ready(line: BridgeLine) -> None:
    """A bridge that was started by hand goes on after the edit: its client read Ready for ever."""
    async with running(line, "scada", OPEN) as bridge, client_of(bridge) as client:
        await until_is(client, "side.Ready", True)
        del line.status["side"]
        await until_is(client, "side.Ready", False)
        assert await value(client, "top.Ready")


async def test_a_number_in_the_status_that_is_none_is_zero(line: BridgeLine) -> None:
    line.status["top"] |= {"error_code": "inf", "result_no": "nan"}
    async with running(line, "scada", OPEN) as bridge, client_of(bridge) as client:
        await until_is(client, "top.OkCount", 70_000)
        assert await value(client, "top.ErrorCode") == 0
        assert await value(client, "top.ResultNo") == 0


async def test_results_are_variables_and_events_in_their_order(line: BridgeLine) -> None:
    async with running(line, "scada", OPEN) as bridge, client_of(bridge) as client:
        seen = await subscribed(client)
        sent = [line.verdict(f"A-{n}", "ng") for n in range(10)] + [line.defect("side")]
        await until(lambda: len(seen.events) == 11)
        of_top = [event for event in seen.events if event.Camera == "top"]
        assert [event.ResultId for event in of_top] == [event.id for event in sent[:10]]
        assert of_top[0].JobId == "job-7" and not of_top[0].IsPartial and of_top[0].ResultState == 1
        assert sent[0].id in of_top[0].ResultContent
        assert await value(client, "top.Verdict") == "ng"
        assert await value(client, "top.PartId") == "A-9"
        assert await value(client, "top.Result.ResultId") == sent[9].id
        created = await value(client, "top.Result.CreationTime")
        assert created.replace(tzinfo=UTC) == datetime.fromisoformat(sent[9].captured_at)
        assert await value(client, "side.Result.IsPartial")


async def test_methods_are_commands_and_answer_what_became_of_them(line: BridgeLine) -> None:
    async with running(line, "scada", OPEN) as bridge, client_of(bridge) as client:
        await until_is(client, "Linewatch.Alive", True)
        assert await call(client, "top.SetThreshold", 2.5) == ["done", "the alarm level is 2.5"]
        assert line.thresholds == {"top": 2.5}
        assert await call(client, "top.ResetThreshold") == ["done", "the alarm level is 2"]
        assert await call(client, "top.SelectRecipe", "top@7") == ["done", "recipe top, inspected with top@7"]
        assert line.verdict("A-1").recipe == "top"
        assert await call(client, "top.SelectRecipe", "top@9") == ["refused", "there is no model top@9"]
        assert await call(client, "top.SetThreshold", -1.0) == ["refused", "an alarm level is above 0"]
        answer, reason = await call(client, "top.SetThreshold", float("nan"))
        assert (answer, "not an alarm level" in reason) == ("refused", True)
        assert await call(client, "side.Trigger", "A-1", "") == [
            "refused",
            "camera side takes no triggers; it needs frames: every",
        ]
        for part, job in (("", ""), ("A\udcff", ""), ("A" * 129, ""), ("A-1", "a\nb")):
            assert (await call(client, "top.Trigger", part, job))[0] == "refused"
        assert (await call(client, "top.Trigger", "A-1", "job"))[0] == "done"
        await until(lambda: len(line.triggers) == 1)
        for wrong in ((), ("high",), (1, 2)):
            with pytest.raises(ua.UaStatusCodeError, match="Argument"):
                await call(client, "top.SetThreshold", *wrong)
        assert line.thresholds == {"top": None}


def secured(folder: Path, own: Certificate, more: str) -> str:
    tls = f'tls: {{cert_file: "{own.cert_file}", key_file: "{own.key_file}"}}'
    return f'scada: {{type: opcua, listen: "127.0.0.1:0", {tls}, {more}}}'


async def secure_client(address: str, certificate: Certificate) -> Client:
    client = Client(address)
    client.application_uri = CLIENT_URI
    await client.set_security(
        SecurityPolicyBasic256Sha256, str(certificate.cert_file), str(certificate.key_file)
    )
    return client


@pytest.fixture
def own(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path, "server", uri="urn:linewatch:test:line-1")


def users_file(folder: Path) -> Path:
    content = users.with_user(users.UsersFile(), "vera", "viewer", "vera-password")
    path = folder / "users.yaml"
    users.write(path, users.with_user(content, "olga", "operator", "olga-password"))
    return path


async def test_users_read_and_operators_call(line: BridgeLine, tmp_path: Path, own: Certificate) -> None:
    known = users_file(tmp_path)
    theirs = make_certificate(tmp_path, "client", uri=CLIENT_URI)
    async with running(line, "scada", secured(tmp_path, own, f'users_file: "{known}"')) as bridge:
        address = await address_of(bridge)
        for name, may_call in (("vera", False), ("olga", True)):
            client = await secure_client(address, theirs)
            client.set_user(name)
            client.set_password(f"{name}-password")
            async with client:
                assert await value(client, "Linewatch.Site") == "test"
                with contextlib.nullcontext() if may_call else pytest.raises(BadUserAccessDenied):
                    assert (await call(client, "top.SetThreshold", 3.0))[0] == "done"
        stranger = await secure_client(address, theirs)
        stranger.set_user("olga")
        stranger.set_password("wrong password")
        with pytest.raises(BadUserAccessDenied):
            async with stranger:
                pass


async def test_a_user_who_is_removed_or_may_only_read_from_now_on_calls_nothing_more(
    line: BridgeLine, tmp_path: Path, own: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    """Who was connected kept all rights, for as long as the connection stayed."""
    caplog.set_level("INFO")
    known = users_file(tmp_path)
    theirs = make_certificate(tmp_path, "client", uri=CLIENT_URI)
    async with running(line, "scada", secured(tmp_path, own, f'users_file: "{known}"')) as bridge:
        client = await secure_client(await address_of(bridge), theirs)
        client.set_user("olga")
        client.set_password("olga-password")
        async with client:
            assert (await call(client, "top.SetThreshold", 3.0))[0] == "done"
            before = users.read(known)
            olga = before.users["olga"].model_copy(update={"role": "viewer"})
            users.write(known, before.model_copy(update={"users": {**before.users, "olga": olga}}))
            assert await value(client, "Linewatch.Site") == "test"
            with pytest.raises(BadUserAccessDenied):
                await call(client, "top.SetThreshold", 4.0)
            users.write(known, before.model_copy(update={"users": {"vera": before.users["vera"]}}))
            with pytest.raises(BadUserAccessDenied):
                await value(client, "Linewatch.Site")
        assert line.thresholds == {"top": 3.0}
    assert "name='olga'" in caplog.text and "argon2" not in caplog.text


async def test_nobody_comes_in_without_encryption(
    line: BridgeLine, tmp_path: Path, own: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One who takes a channel without security, though none is offered, and knows a password."""
    monkeypatch.setattr(Client, "find_endpoint", lambda endpoints, mode, uri: next(iter(endpoints)))
    known = f'users_file: "{users_file(tmp_path)}"'
    async with running(line, "scada", secured(tmp_path, own, known)) as bridge:
        pretender = Client(await address_of(bridge))
        await pretender.connect_socket()
        try:
            await pretender.send_hello()
            await pretender.open_secure_channel()
            await pretender.create_session()
            await pretender.activate_session("olga", "olga-password")
            with pytest.raises(BadUserAccessDenied):
                await pretender.get_node(ua.NodeId("Linewatch.Site", 2)).read_value()
        finally:
            pretender.disconnect_socket()


async def test_nobody_takes_the_session_of_another_client(
    line: BridgeLine, tmp_path: Path, own: Certificate
) -> None:
    """A stranger who guessed its number called methods as its operator, though it proved nothing."""
    theirs, strange = (make_certificate(tmp_path, name, uri=CLIENT_URI) for name in ("client", "stranger"))
    known = f'users_file: "{users_file(tmp_path)}"'
    async with running(line, "scada", secured(tmp_path, own, known)) as bridge:
        address = await address_of(bridge)
        client, thief = await secure_client(address, theirs), await secure_client(address, strange)
        client.set_user("olga")
        client.set_password("olga-password")
        async with client:
            await thief.connect_socket()
            try:
                await thief.send_hello()
                await thief.open_secure_channel()
                thief.uaclient.protocol.authentication_token = client.uaclient.protocol.authentication_token
                with pytest.raises(ua.UaStatusCodeError, match="BadSessionIdInvalid"):
                    await thief.uaclient.activate_session(
                        ua.ActivateSessionParameters(UserIdentityToken=ua.AnonymousIdentityToken())
                    )
                with pytest.raises(BadUserAccessDenied):
                    await thief.get_node(ua.NodeId("Linewatch.Site", 2)).read_value()
                with pytest.raises(BadUserAccessDenied):
                    await thief.get_node(ua.NodeId("top", 2)).call_method(
                        ua.NodeId("top.SetThreshold", 2), 9.0
                    )
            finally:
                thief.disconnect_socket()
            assert (await call(client, "top.SetThreshold", 3.0))[0] == "done"
        assert line.thresholds == {"top": 3.0}


async def test_a_client_is_known_by_its_certificate_unless_it_has_expired(
    line: BridgeLine, tmp_path: Path, own: Certificate
) -> None:
    known = make_certificate(tmp_path, "known", uri=CLIENT_URI)
    stranger = make_certificate(tmp_path, "stranger", uri=CLIENT_URI)
    expired = make_certificate(tmp_path, "expired", uri=CLIENT_URI, expired=True)
    mes, old = (f'{{cert_file: "{certificate.cert_file}"}}' for certificate in (known, expired))
    clients = f"clients: {{mes: {mes}, old: {old}}}"
    async with running(line, "scada", secured(tmp_path, own, clients)) as bridge:
        address = await address_of(bridge)
        async with await secure_client(address, known) as client:
            assert await value(client, "Linewatch.Site") == "test"
            with pytest.raises(BadUserAccessDenied):
                await call(client, "top.SetThreshold", 3.0)
        for wrong, code in ((stranger, "BadUserAccessDenied"), (expired, "BadCertificateTimeInvalid")):
            with pytest.raises(ua.UaStatusCodeError, match=code):
                async with await secure_client(address, wrong):
                    pass


async def test_a_user_s_certificate_that_has_expired_is_refused_in_a_channel_that_is_good(
    line: BridgeLine, tmp_path: Path, own: Certificate
) -> None:
    """Only the channel's was looked at: whose own had expired came in, and called methods."""
    channel, good = (make_certificate(tmp_path, name, uri=CLIENT_URI) for name in ("channel", "good"))
    expired = make_certificate(tmp_path, "expired", uri=CLIENT_URI, expired=True)
    now, old = (f'{{cert_file: "{certificate.cert_file}"}}' for certificate in (good, expired))
    clients = f"clients: {{now: {now}, old: {old}}}"
    async with running(line, "scada", secured(tmp_path, own, clients)) as bridge:
        address = await address_of(bridge)
        for user in (good, expired):
            client = await secure_client(address, channel)
            await client.load_client_certificate(str(user.cert_file))
            await client.load_private_key(str(user.key_file))
            if user is good:
                async with client:
                    assert await value(client, "Linewatch.Site") == "test"
            else:
                with pytest.raises(ua.UaStatusCodeError, match="BadCertificateTimeInvalid"):
                    async with client:
                        pass


async def test_our_own_expired_certificate_is_said_and_nothing_is_served(
    line: BridgeLine, tmp_path: Path
) -> None:
    own = make_certificate(tmp_path, "server", uri="urn:linewatch:test:line-1", expired=True)
    told = secured(tmp_path, own, f'users_file: "{users_file(tmp_path)}"')
    async with running(line, "scada", told) as bridge:
        await until(lambda: bridge.report.trouble is not None)
        assert "expired on" in str(bridge.report.trouble)


async def test_a_client_that_vanished_does_not_keep_its_connection(line: BridgeLine) -> None:
    async with running(line, "scada", OPEN) as bridge, client_of(bridge):
        assert isinstance(bridge.sink, OpcUaSink)
        port = bridge.sink.port
        await until(lambda: asks_whether_its_peers_are_there(port))


async def test_a_port_that_is_taken_is_said(line: BridgeLine, caplog: pytest.LogCaptureFixture) -> None:
    """Each attempt cost more than a second of CPU, and a traceback in the log."""
    async with running(line, "first", OPEN.replace("scada", "first")) as bridge:
        port = (await address_of(bridge)).split(":")[2].partition("/")[0]
        async with running(line, "scada", OPEN.replace(":0", f":{port}")) as second:
            await until(lambda: second.report.failed > 1)
            assert "can't listen on" in str(second.report.trouble)
    assert "Traceback" not in caplog.text
