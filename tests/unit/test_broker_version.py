"""A broker that is too old is refused with what to do; one that does not say is let pass.

The old servers are a few lines that answer as those do: no package has such a server any more.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stream.broker import Endpoint
from stream.broker_version import BrokerTooOld, check_version
from stream.outbox import Outbox
from stream.publisher import Publisher, explain
from tests.brokers import KEYS, facts, publishing, until


def hello(server: str, version: str) -> bytes:
    words = ("server", server, "version", version)
    return b"*4\r\n" + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words)


@contextlib.asynccontextmanager
async def server(answer: bytes) -> AsyncIterator[Endpoint]:
    """Says +OK to everything but HELLO."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                count = int((await reader.readuntil(b"\r\n"))[1:])
                words = []
                for _ in range(count):
                    size = int((await reader.readuntil(b"\r\n"))[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                writer.write(answer if words[0].upper() == b"HELLO" else b"+OK\r\n")
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield Endpoint(f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0")
    finally:
        listening.close()
        await listening.wait_closed()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b"-ERR unknown command `HELLO`, with args beginning with: \r\n", "older than Redis 6.0"),
        (hello("redis", "6.0.16"), "redis 6.0.16"),
    ],
)
async def test_an_old_one_is_named_with_what_to_do(answer: bytes, found: str) -> None:
    async with server(answer) as endpoint, endpoint.client() as client:
        with pytest.raises(BrokerTooOld) as caught:
            await check_version(client)
    assert explain(caught.value) == str(caught.value)
    assert str(caught.value) == (
        f"the broker is {found}, and Redis 6.2 or Valkey is needed; update it, or name another in events.url"
    )


@pytest.mark.parametrize("version", ["6.2.0", "7.0.15", "10.1", "255.255.255", "df-v1.2"])
async def test_a_new_one_is_named(version: str) -> None:
    async with server(hello("redis", version)) as endpoint, endpoint.client() as client:
        assert await check_version(client) == f"redis {version}"


async def test_one_whose_acl_forbids_the_question_is_let_pass() -> None:
    no = b"-NOPERM this user has no permissions to run the 'hello' command\r\n"
    async with server(no) as endpoint, endpoint.client() as client:
        assert await check_version(client) == ""


async def test_events_wait_in_the_outbox_for_a_broker_that_is_new_enough(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    outbox.put(facts(3))
    async with server(hello("redis", "6.0.16")) as endpoint:
        publisher = Publisher(outbox, endpoint.client, KEYS, maxlen=100)
        async with publishing(publisher):
            await until(lambda: publisher.state.error is not None)
    assert "the broker is redis 6.0.16" in str(publisher.state.error)
    assert outbox.pending == 3 and not publisher.state.connected
    outbox.close()
