"""The webhook against a real HTTP server that is slow, refuses, hangs, answers 500 and redirects."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from stream.bridges.report import Report
from stream.events import parse_entry
from tests.bridgeline import BridgeLine, pending, running
from tests.brokers import KEYS, until, valkey
from tests.certificates import make_certificate
from tests.webhook_peer import SECRET, Peer


@pytest_asyncio.fixture
async def line(tmp_path: Path) -> AsyncIterator[BridgeLine]:
    async with valkey(tmp_path / "broker") as broker, BridgeLine(broker, tmp_path) as line:
        yield line


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as peer:
        yield peer


def mes(peer: Peer, more: str = "") -> str:
    return f'mes: {{type: webhook, url: "{peer.url}", secret: "{SECRET}", timeout_s: 0.3{more}}}'


async def test_events_arrive_signed_in_order_and_are_acknowledged(line: BridgeLine, peer: Peer) -> None:
    sent = [line.verdict(f"p{n}") for n in range(20)]
    async with (
        running(line, "mes", mes(peer, ', token: "tok-123"')) as bridge,
        line.broker.endpoint.client() as client,
    ):
        await until(lambda: bridge.report.delivered == 20)
        assert [event["id"] for event in peer.taken] == [event.id for event in sent]
        assert peer.headers[0]["authorization"] == "Bearer tok-123"
        while await pending(client, "bridge-mes"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_peer_that_hangs_or_refuses_gets_everything_later_once_and_in_order(
    line: BridgeLine, peer: Peer
) -> None:
    troubles = [peer.hang, lambda event: 503, lambda event: None, lambda event: 404, lambda event: 500]
    peer.behave = lambda event: troubles.pop()(event) if troubles else 204
    sent = [line.verdict(f"p{n}") for n in range(5)]
    async with running(line, "mes", mes(peer)) as bridge:
        await until(lambda: bridge.report.delivered == 5)
        assert [event["id"] for event in peer.taken] == [event.id for event in sent]
        assert bridge.report.failed >= 4  # the one that hung up may have been tried again at once
        assert bridge.report.trouble is None


async def test_a_peer_that_is_not_there_yet_is_waited_for(line: BridgeLine) -> None:
    with Peer() as first:
        port = first.port
    sent = line.verdict("p")
    async with running(line, "mes", mes(first)) as bridge:
        await until(lambda: bridge.report.failed > 0)
        assert "can't be reached" in str(bridge.report.trouble)
        with Peer(port=port) as peer:
            await until(lambda: bridge.report.delivered == 1)
            assert [event["id"] for event in peer.taken] == [sent.id]


async def test_a_redirect_is_never_followed(line: BridgeLine, peer: Peer) -> None:
    with Peer() as forbidden:
        peer.behave = lambda event: (307, {"location": forbidden.url})
        line.verdict("p")
        async with running(line, "mes", mes(peer)) as bridge:
            await until(lambda: bridge.report.failed > 0)
            assert "a redirect; it is not followed" in str(bridge.report.trouble)
        assert forbidden.asked == []


async def test_what_the_peer_refuses_for_good_becomes_a_dead_letter(line: BridgeLine, peer: Peer) -> None:
    peer.behave = lambda event: 422 if event["part_id"] == "bad" else 204
    bad = line.verdict("bad")
    good = line.verdict("good")
    async with running(line, "mes", mes(peer)) as bridge, line.broker.endpoint.client() as client:
        await until(lambda: bridge.report.delivered == 1 and bridge.report.dead == 1)
        assert [event["id"] for event in peer.taken] == [good.id]
        ((_, letter),) = await client.xrange(KEYS.dead)
        assert parse_entry(letter).id == bad.id
        assert b"answers 422" in letter[b"dead_reason"]


async def test_an_internal_error_over_one_event_does_not_block_its_camera_for_ever(
    line: BridgeLine, peer: Peer
) -> None:
    peer.behave = lambda event: 500 if event["part_id"] == "bad" else 204
    line.verdict("bad")
    line.verdict("good")
    async with running(line, "mes", mes(peer, ", give_up_after_s: 0.5")) as bridge:
        await until(lambda: bridge.report.dead == 1 and bridge.report.delivered == 1)


async def test_one_camera_does_not_wait_for_another_ones_trouble(line: BridgeLine, peer: Peer) -> None:
    peer.behave = lambda event: 503 if event["camera"] == "top" else 204
    line.verdict("p")
    side = line.defect("side")
    async with running(line, "mes", mes(peer)) as bridge:
        await until(lambda: bridge.report.delivered == 1)
        assert [event["id"] for event in peer.taken] == [side.id]


async def test_a_bridge_that_is_started_again_goes_on_where_it_stopped(line: BridgeLine, peer: Peer) -> None:
    peer.behave = lambda event: 204 if event["part_id"] != "p2" else 503
    sent = [line.verdict(f"p{n}") for n in range(5)]
    async with running(line, "mes", mes(peer)) as bridge:
        await until(lambda: bridge.report.delivered == 2 and bridge.report.failed > 0)
    peer.behave = lambda event: 204
    async with running(line, "mes", mes(peer)) as bridge:
        await until(lambda: bridge.report.delivered == 3)
    assert [event["id"] for event in peer.taken] == [event.id for event in sent]


async def test_a_broker_that_comes_back_empty_makes_no_event_arrive_twice(
    line: BridgeLine, peer: Peer
) -> None:
    sent = [line.verdict(f"p{n}") for n in range(5)]
    async with running(line, "mes", mes(peer)) as bridge:
        await until(lambda: bridge.report.delivered == 5)
    async with line.broker.endpoint.client() as client:
        await client.flushall()
        while await client.xlen(KEYS.events) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    last = line.verdict("last")
    async with running(line, "mes", mes(peer)) as bridge:
        await until(lambda: bridge.report.delivered == 1)
        assert bridge.report.repeated == 5
    assert [event["id"] for event in peer.taken] == [event.id for event in [*sent, last]]


async def test_the_bridge_reports_to_the_broker(line: BridgeLine, peer: Peer) -> None:
    line.verdict("late", asked_s=1_700_000_000.0)
    async with running(line, "mes", mes(peer)) as bridge, line.broker.endpoint.client() as client:
        await until(lambda: bridge.report.delivered == 1)
        report = None
        while report is None or report.delivered == 0:
            report = Report.parse(await client.get(KEYS.bridge_report("mes")) or b"")
            await asyncio.sleep(0.02)
        assert report.late == 1
        assert sum(report.to_output) == 1


async def test_a_peer_that_was_away_makes_few_lines_of_many_late_verdicts(
    line: BridgeLine, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(200):
        line.verdict(f"p{n}", asked_s=1_700_000_000.0)
    async with running(line, "mes", mes(peer)) as bridge:
        await until(lambda: bridge.report.delivered == 200)
        assert bridge.report.late == 200
    said = [record.getMessage() for record in caplog.records if "too late" in record.getMessage()]
    assert "part p0 of camera top" in said[0]
    assert len(said) < 20


async def test_a_certificate_that_nobody_vouches_for_is_refused(line: BridgeLine, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "peer", hosts=("127.0.0.1",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert_file, certificate.key_file)
    with Peer(context) as peer:
        line.verdict("p")
        async with running(line, "mes", mes(peer)) as bridge:
            await until(lambda: bridge.report.failed > 0)
            assert "is refused: self-signed certificate" in str(bridge.report.trouble)
        assert peer.asked == []
        trusted = mes(peer, f', tls: {{ca_file: "{certificate.cert_file}"}}').replace("0.3", "5")
        async with running(line, "mes", trusted) as bridge:
            await until(lambda: bridge.report.delivered == 1)


async def test_a_certificate_that_has_expired_is_refused(line: BridgeLine, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "peer", hosts=("127.0.0.1",), expired=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert_file, certificate.key_file)
    with Peer(context) as peer:
        line.verdict("p")
        trusting = mes(peer, f', tls: {{ca_file: "{certificate.cert_file}"}}').replace("0.3", "5")
        async with running(line, "mes", trusting) as bridge:
            await until(lambda: bridge.report.failed > 0)
            assert "certificate has expired" in str(bridge.report.trouble)
