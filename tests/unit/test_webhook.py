"""How long the webhook bridge tries, and which answer it takes for whose."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from config.services import TlsClientSettings
from stream.bridges.http import Poster, Reply
from stream.bridges.sink import PeerAway, Rejected
from stream.bridges.webhook import Options, Webhook
from tests.brokers import facts, until
from tests.certificates import make_certificate
from tests.webhook_peer import SECRET


class Failing:
    """A peer that answers each event with the same error."""

    host = "mes"

    def __init__(self, status: int = 500) -> None:
        self.status = status
        self.stamps: list[int] = []

    async def post(self, body: bytes, headers: dict[str, str]) -> Reply:
        self.stamps.append(int(headers["webhook-timestamp"]))
        return Reply(self.status)


async def test_a_clock_that_is_set_makes_it_give_up_neither_sooner_nor_later() -> None:
    utc_s, elapsed_s = 1_700_000_000.0, 50.0
    poster: Any = Failing()
    options = Options.model_validate({"url": "http://mes", "secret": SECRET, "give_up_after_s": 3600})
    webhook = Webhook(options, poster, now_s=lambda: utc_s, elapsed_s=lambda: elapsed_s)
    (event,) = facts(1)
    with pytest.raises(PeerAway):
        await webhook.deliver(event)
    utc_s += 86_400.0
    with pytest.raises(PeerAway):
        await webhook.deliver(event)
    utc_s -= 2 * 86_400.0
    elapsed_s += 3600.0
    with pytest.raises(Rejected, match="answers 500 since 3600 s"):
        await webhook.deliver(event)
    assert poster.stamps == [1_700_000_000, 1_700_086_400, 1_699_913_600]


@pytest.mark.parametrize(
    ("status", "in_the_end"),
    [(400, Rejected), (409, Rejected), (418, Rejected), (501, Rejected), (401, PeerAway), (405, PeerAway)],
)
async def test_only_what_may_be_about_the_event_ever_becomes_a_dead_letter(
    status: int, in_the_end: type[Exception]
) -> None:
    """A peer that has an event already says 409, and would have held up its camera for ever."""
    elapsed_s = 50.0
    options = Options.model_validate({"url": "http://mes", "secret": SECRET, "give_up_after_s": 3600})
    peer: Any = Failing(status)
    webhook = Webhook(options, peer, elapsed_s=lambda: elapsed_s)
    (event,) = facts(1)
    with pytest.raises(Rejected if status == 400 else PeerAway):
        await webhook.deliver(event)
    elapsed_s += 7200.0
    with pytest.raises(in_the_end, match=f"answers {status}"):
        await webhook.deliver(event)


UNASKED = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize("when", ["at once", "while it is idle", "and half closes"])
async def test_what_a_peer_says_unasked_is_not_the_answer_to_the_next_event(when: str) -> None:
    """Servers say 408 or 400 before they end an idle connection: the next event became a dead letter."""
    asked: list[bytes] = []
    said = asyncio.Event()
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                asked.append(await reader.readexactly(2))
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n" + (UNASKED if when == "at once" else b""))
                if when != "at once":
                    await over.wait()
                    writer.write(UNASKED)
                if when == "and half closes":
                    writer.write_eof()
                await writer.drain()
                said.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        poster = Poster(f"http://127.0.0.1:{port}/", TlsClientSettings(), timeout_s=5.0)
        running = asyncio.create_task(poster.run())
        assert await poster.post(b"{}", {}) == Reply(204)
        over.set()
        await said.wait()
        await until(lambda: when == "at once" or bool(poster._idle[0].reader._buffer))  # type: ignore[attr-defined]
        assert await poster.post(b"{}", {}) == Reply(204)
        assert len(asked) == 2
        running.cancel()
        await asyncio.wait([running])


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    """OpenSSL asked at the terminal, and the whole bridge waited for the answer."""
    ours = make_certificate(tmp_path, "ours")
    key = load_pem_private_key(ours.key_file.read_bytes(), None)
    secret = BestAvailableEncryption(b"passphrase")
    ours.key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    tls = TlsClientSettings.model_validate({"cert_file": ours.cert_file, "key_file": ours.key_file})
    with pytest.raises(PeerAway, match="is encrypted, expected one without a passphrase"):
        Poster("https://mes", tls, 1.0)
