"""Where the broker is, as one address, without user and password.

    redis://HOST[:6379][/DB]                          one server; rediss:// with TLS
    unix:///PATH                                      one server on this machine
    redis+sentinel://HOST[:26379][,HOST…]/SERVICE[/DB]    the primary that the sentinels name
    redis+cluster://HOST[:6379][,HOST…]               a cluster, found by any of these nodes

`rediss+sentinel` and `rediss+cluster` use TLS. A cluster spreads our keys over its nodes.
"""

import re
from dataclasses import dataclass
from typing import Literal, Self

PATTERN = r"^(embedded$|rediss?(\+sentinel|\+cluster)?://[^\s/]|unix:///)"
WISH = (
    "embedded, redis://HOST:PORT/DB, rediss:// (TLS), unix:///PATH, "
    "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE or redis+cluster://HOST:PORT,HOST:PORT"
)
_URL = re.compile(r"^redis(?P<tls>s?)(\+(?P<kind>sentinel|cluster))?://(?P<nodes>[^/?#]+)(?P<path>/[^?#]*)?$")
_NODE = re.compile(r"^(\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9_.-]+))(:(?P<port>[0-9]{1,5}))?$")
_PORTS = {"single": 6379, "sentinel": 26379, "cluster": 6379}

Kind = Literal["single", "sentinel", "cluster"]


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """An address, taken apart. `nodes` are (host, port), none of a unix socket; `service` is a sentinel's."""

    text: str
    kind: Kind
    nodes: tuple[tuple[str, int], ...] = ()
    tls: bool = False
    service: str = ""
    db: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, whose text says what was expected."""
        if text.startswith("unix:///"):
            return cls(text, "single")
        found = _URL.match(text)
        if found is None:
            raise ValueError(f"expected {WISH}")
        kind: Kind = found["kind"] or "single"  # type: ignore[assignment]  # the pattern knows no other
        nodes = tuple(_node(node, _PORTS[kind]) for node in found["nodes"].split(","))
        if kind == "single" and len(nodes) > 1:
            raise ValueError(
                "expected one HOST:PORT; several belong to redis+sentinel:// or redis+cluster://"
            )
        service, db = _path(kind, (found["path"] or "").strip("/").split("/"))
        return cls(text, kind, nodes, bool(found["tls"]), service, db)


def _node(text: str, default_port: int) -> tuple[str, int]:
    found = _NODE.match(text)
    port = int(found["port"] or default_port) if found else 0
    if found is None or not 1 <= port <= 65535:
        raise ValueError("expected HOST:PORT, with a comma between several")
    return found["v6"] or found["host"], port


def _path(kind: Kind, parts: list[str]) -> tuple[str, int]:
    """(service, database number)."""
    service = parts.pop(0) if kind == "sentinel" else ""
    if kind == "sentinel" and not service:
        raise ValueError("expected the name of the sentinels' service, redis+sentinel://HOST:PORT/SERVICE")
    number = parts[0] if parts else ""
    if len(parts) > 1 or not (number.isdecimal() or number == ""):
        raise ValueError("expected nothing or the number of a database after the address")
    if kind == "cluster" and number not in ("", "0"):
        raise ValueError("expected no database number: a cluster has only one")
    return service, int(number or 0)
