"""What a type of bridge is. An entry point of `linewatch.sinks` names a module that holds

    NEEDS     {module that must be importable: what brings it, as pip is told}
    Options   the bridge's own keys, a subclass of BridgeOptions
    build     (options, line) → Sink; it touches nothing yet
    check     (options, site, line) → Wrong, as many as there are: what `linewatch check` can tell from files
              of this machine; may be left out

The module itself imports no optional library; `build` may.

SinkError            its text is one sentence for a person, without secrets
 ├── PeerAway        the event is well, the peer is not: it is offered again, for as long as it takes
 └── Rejected        the peer will never take this event: it becomes a dead letter
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from config.fields import Name, Section

from ..events import Event, Kind


class SinkError(Exception):
    """Base of the ways in which a sink fails."""

    user_message = True


class PeerAway(SinkError):
    """Nothing is wrong with the event: try again later, and not before `retry_after_s`."""

    def __init__(self, text: str, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class Rejected(SinkError):
    """This event will never be taken."""


Key = tuple[str | int, ...]
"""A key below the bridge's own, as in ("tls", "ca_file")."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """What only a look at this machine shows to be wrong, in one sentence."""

    key: Key
    text: str


class BridgeOptions(Section):
    """The keys that every type of bridge has."""

    cameras: tuple[Name, ...] | None = None
    """Only these cameras, with their events, states and commands; null: all."""
    kinds: tuple[Kind, ...] = ("defect", "part", "camera", "system")
    """Only events of these kinds."""

    @property
    def named_cameras(self) -> Mapping[str, Key]:
        """Cameras that these options name, each with its key: checked against the file."""
        return {name: ("cameras", n) for n, name in enumerate(self.cameras or ())}

    @property
    def alone(self) -> tuple[Key, str] | None:
        """A key, and what only one bridge may have: an address that is listened on, a name at a broker."""
        return None

    def among(self, cameras: Iterable[str]) -> tuple[str, ...]:
        """Those of the line's cameras that the bridge is for."""
        return tuple(camera for camera in cameras if self.cameras is None or camera in self.cameras)

    def wants(self, event: Event) -> bool:
        """Whether the bridge passes this event on. Events of the whole line belong to every camera."""
        of_them = self.cameras is None or event.camera in self.cameras or event.kind == "system"
        return of_them and event.kind in self.kinds


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command: `unanswered` when the line said nothing in time."""

    answer: Literal["done", "refused", "unanswered"]
    reason: str


LONGEST_TEXT = 128
"""Characters of a command's or a trigger's text: what the line reads of its own, too."""


def unfit(name: str, text: str, *, needed: bool = True) -> str | None:
    """Why the line would not take `text` as `name`, for whoever sent it; None: it fits. What is printable
    can be encoded too: half a surrogate pair, which JSON and OPC UA let through, is neither.
    """
    if len(text) > LONGEST_TEXT or not text.isprintable():
        return f"{name} must be printable text of at most {LONGEST_TEXT} characters"
    return f"{name} is missing" if needed and not text else None


Status = Mapping[str, str]
"""A camera's status hash as the line wrote it: ready, busy, result_no, … (all texts)."""


class Line(Protocol):
    """The line that a sink serves, as its peer may see and move it. Event loop only."""

    site: str
    line: str
    cameras: tuple[str, ...]
    """Those that run, in the order of the config file."""
    triggered: frozenset[str]
    """Cameras whose results are verdicts on parts; those of the others are their incidents."""
    verdict_within_ms: float
    state_dir: Path
    """A folder of this bridge's own; it exists."""

    @property
    def alive(self) -> bool:
        """The heartbeat stands and the broker answers; False: nothing here can be relied on."""

    def status(self, camera: str) -> Status:
        """As last read; empty before the first time."""

    async def changed(self) -> None:
        """Returns after the next look at the line (about twice a second), also when it failed."""

    def peer_is_there(self) -> None:
        """The sink's own side is up: said trouble is over."""

    def out(self, event: Event) -> None:
        """The peer can see this event now, though `deliver` goes on: what it took is measured to here."""

    async def ask(self, command: str, camera: str, value: str) -> Answer:
        """Send a command (see stream/control.py) and wait for its answer; never raises SinkError. A text that
        is `unfit` is refused.
        """

    async def trigger(self, camera: str, part_id: str, job_id: str) -> None:
        """Ask for the verdict on a part, which comes as an event. Raises PeerAway; the broker may have it all
        the same, so what is asked again within 10 s is the same trigger to the line. Texts that are `unfit`
        are the sink's to refuse.
        """


class Sink(Protocol):
    """One bridge's side to its peer."""

    async def run(self) -> None:
        """Be there for the peer: a server, a connection. Until cancelled, or until it fails with a SinkError;
        then it is called again after a while. A sink that needs nothing of the kind waits for ever.
        """

    async def deliver(self, event: Event) -> None:
        """Returns when the side effect has happened: then the event is acknowledged. Raises SinkError.

        Called for one event of a camera at a time, in their order, and for several cameras at the same time;
        also while `run` is down. May be cancelled at any await; the same event (by its id) comes again then.
        """
