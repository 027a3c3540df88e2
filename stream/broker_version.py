"""Is the broker one that we can work with? Its version is asked at every connection, because brokers are
replaced; what its ACL lets us do, by `linewatch check` and `linewatch doctor`.
"""

from collections.abc import Collection, Iterator
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from config.settings import Settings

from .broker import BrokerError
from .keys import Keys
from .links import Links

# XAUTOCLAIM, which every consumer group needs, came with it.
OLDEST = (6, 2)


class BrokerTooOld(BrokerError):
    """The broker answers, and lacks commands that we need."""


async def check_version(client: Redis) -> str:
    """The broker's name and version, "" where its ACL does not let us ask.

    Raises BrokerTooOld, RedisError.
    """
    try:
        told: Any = await client.execute_command("HELLO")  # type: ignore[no-untyped-call]
    except NoPermissionError:
        return ""
    except ResponseError as error:
        if "unknown command" in str(error).lower():
            raise BrokerTooOld(_sentence("older than Redis 6.0")) from None
        raise
    facts = told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=False))
    name, version = (_text(facts.get(key, b"")) for key in (b"server", b"version"))
    if _numbers(version) < OLDEST:
        raise BrokerTooOld(_sentence(f"{name} {version}"))
    return f"{name} {version}"


async def check_rights(links: Links, settings: Settings) -> None:
    """Would the broker take what this line and its bridges send? It is queued in transactions that nobody
    carries out: a server says at once what it would refuse, and keeps nothing.

    Raises RedisError (no right; or full, or a replica), OSError, what the links' greeting raises.
    """
    keys = Keys(settings.events.stream_key(settings.site, settings.line))
    camera = next(iter(settings.cameras), "-")
    # Those that are started elsewhere may have another user.
    bridges = [name for name, bridge in settings.bridges.items() if bridge.autostart]
    for key, words in (*_sent(keys, camera), *_sent_by(bridges, keys, camera)):
        client = await links.of(key)
        connection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            for command in ([] if words[0] == "WATCH" else [("MULTI",)]) + [words]:
                await connection.send_command(*command)
                await connection.read_response()
        except NoPermissionError as error:  # which need not name the key
            raise NoPermissionError(f"{command[0]} {key}: {error}") from None
        finally:
            await connection.disconnect()  # and with it the transaction
            await client.connection_pool.release(connection)


def _sent(keys: Keys, camera: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for key in (keys.events, keys.verdicts, keys.answers):
        yield key, ("WATCH", key)
        yield key, ("XINFO", "STREAM", key)
        yield key, ("XRANGE", key, "-", "+")
        yield key, ("XADD", key, "*", "data", "")
    yield keys.dead, ("XADD", keys.dead, "*", "data", "")
    for key in (keys.triggers, keys.commands):
        yield key, ("XREADGROUP", "GROUP", "linewatch", "linewatch", "STREAMS", key, ">")
    for key in (keys.heartbeat, keys.cameras, keys.owner):
        yield key, ("SET", key, "")
    yield keys.status(camera), ("HSET", keys.status(camera), "ready", "0")


def _sent_by(bridges: Collection[str], keys: Keys, camera: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """An ACL that was written for an older version need not allow all of it: a PLC would see no line."""
    if not bridges:
        return
    yield keys.heartbeat, ("GET", keys.heartbeat)
    yield keys.status(camera), ("HGETALL", keys.status(camera))
    yield keys.answers, ("XREVRANGE", keys.answers, "+", "-")
    yield keys.answers, ("XREAD", "STREAMS", keys.answers, "0")
    yield keys.events, ("XREADGROUP", "GROUP", "bridge", "bridge", "STREAMS", keys.events, ">")
    yield keys.events, ("XACK", keys.events, "bridge", "0-1")
    for name in bridges:
        yield keys.bridge_report(name), ("SET", keys.bridge_report(name), "")
        yield keys.bridge_reader(name), ("SET", keys.bridge_reader(name), "")


def _sentence(found: str) -> str:
    return (
        f"the broker is {found}, and Redis 6.2 or Valkey is needed; update it, or name another in events.url"
    )


def _numbers(version: str) -> tuple[int, ...]:
    """(7, 0) of 7.0.15. A fork that counts otherwise (no number at all) is let pass."""
    parts = version.split(".")[:2]
    return tuple(map(int, parts)) if len(parts) == 2 and all(p.isdigit() for p in parts) else OLDEST


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
