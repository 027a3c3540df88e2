"""One process speaks for a line, and one is a bridge, wherever they run: a broker that is a dict says so."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Away
from redis.exceptions import NoPermissionError

from stream import claim as module
from stream.claim import Claim, Taken
from tests.puppets import until

Make = Callable[..., Claim]


class Broker:
    """One key, which a test lets expire; `refuses` is raised at each question."""

    def __init__(self) -> None:
        self.value: str | None = None
        self.refuses: Exception | None = None
        self.asked = 0

    async def get(self, key: str) -> bytes | None:
        self.asked += 1
        if self.refuses is not None:
            raise self.refuses
        return None if self.value is None else self.value.encode()

    async def set(self, key: str, value: str, px: int) -> None:
        self.value = value

    async def aclose(self) -> None: ...


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_EVERY_S", 0.001)
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.001)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """A claim whose lock is the file `name`; of several the first is made first."""
    with ExitStack() as files:

        def made(broker: Broker, name: str) -> Claim:
            lock = files.enter_context((tmp_path / name).open("ab"))
            return Claim(lambda **_: broker, "owner", lock, what="it runs {where}", mend="stop one")  # type: ignore[arg-type, return-value]

        yield made


async def soon(what: Awaitable[Any]) -> None:
    async with asyncio.timeout(2.0):
        await what


async def test_a_second_process_is_refused_and_the_first_one_goes_on(make: Make) -> None:
    broker = Broker()
    first, second = make(broker, "a"), make(broker, "b")
    await soon(first.take())
    keeping = asyncio.create_task(first.keep())
    with pytest.raises(Taken, match=r"it runs on .+ \(process \d+\); stop one"):
        await soon(second.take())
    # Of two that meet later, as when the broker was away, it is the same one.
    broker.value = None
    with pytest.raises(Taken):
        await soon(second.keep())
    assert not keeping.done()
    keeping.cancel()


async def test_a_killed_process_is_in_nobodys_way(make: Make) -> None:
    broker = Broker()
    await soon(make(broker, "a").take())
    left = broker.value
    asked = broker.asked
    await soon(make(broker, "a").take())  # started again here: not a moment's wait
    assert broker.asked == asked + 1
    broker.value = left
    elsewhere = asyncio.create_task(make(broker, "b").take())
    await until(lambda: broker.asked > asked + 4)
    assert broker.value == left  # and not taken away from one that may only be slow
    broker.value = None
    await soon(elsewhere)


@pytest.mark.parametrize("refuses", [Away("gone"), OSError(), NoPermissionError("no permissions for owner")])
async def test_a_broker_that_is_away_or_forbids_it_keeps_nobody_from_starting(
    refuses: Exception, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker()
    broker.refuses = refuses
    claim = make(broker, "a")
    await soon(claim.take())
    keeping = asyncio.create_task(claim.keep())
    await until(lambda: broker.asked > 2)
    keeping.cancel()
    assert len(caplog.records) == isinstance(refuses, NoPermissionError)


@pytest.mark.parametrize(
    "nonsense",
    ["1", "{", "[]", "null", "[" * 100_000, '{"run": ""}', "1" * 5000],
)
async def test_nonsense_at_the_key_is_nobody(nonsense: str, make: Make) -> None:
    broker = Broker()
    broker.value = nonsense
    await soon(make(broker, "a").take())
    assert json.loads(broker.value).keys() == {"run", "host", "pid", "n"}
