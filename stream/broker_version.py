"""Is the broker one that we can work with? Asked at every connection, because brokers are replaced."""

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from .broker import BrokerError

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
