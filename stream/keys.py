"""Names of the keys beside the event stream. No command of ours ever spans two keys."""

from dataclasses import dataclass

_SUFFIX = ":events"


@dataclass(frozen=True, slots=True)
class Keys:
    """All keys of one line, from the event stream's, `linewatch:SITE:LINE:events`."""

    events: str

    @property
    def base(self) -> str:
        return self.events.removesuffix(_SUFFIX)

    def of(self, stream: str) -> str:
        """The key of a stream that the outbox knows by its suffix: events, verdicts, answers."""
        return self.events if stream == "events" else f"{self.base}:{stream}"

    def status(self, camera: str) -> str:
        return f"{self.base}:{camera}:status"

    @property
    def cameras(self) -> str:
        """Which cameras have a status: the next run must know those that its config has no more."""
        return f"{self.base}:cameras"

    def bridge_report(self, bridge: str) -> str:
        """Three parts, so that it is no camera's status whatever a camera is called."""
        return f"{self.base}:bridge:{bridge}:report"

    def bridge_reader(self, bridge: str) -> str:
        return f"{self.base}:bridge:{bridge}:reader"

    @property
    def owner(self) -> str:
        return f"{self.base}:owner"

    @property
    def heartbeat(self) -> str:
        return f"{self.base}:heartbeat"

    @property
    def triggers(self) -> str:
        return f"{self.base}:triggers"

    @property
    def verdicts(self) -> str:
        return f"{self.base}:verdicts"

    @property
    def commands(self) -> str:
        return f"{self.base}:commands"

    @property
    def answers(self) -> str:
        return f"{self.base}:answers"

    @property
    def dead(self) -> str:
        return f"{self.base}:dead"
