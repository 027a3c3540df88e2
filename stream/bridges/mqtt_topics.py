"""Names of the topics. Pure."""

from dataclasses import dataclass
from typing import Literal

from ..events import NO_CAMERA


@dataclass(frozen=True, slots=True)
class Topics:
    """All topics of one line. Sites, lines and cameras hold no `/`, `+` or `#` (see config.fields.Name)."""

    style: Literal["plain", "sparkplug"]
    prefix: str
    site: str
    line: str

    @property
    def availability(self) -> tuple[str, str]:
        """Where `online` and `offline` go: the same topic unless Sparkplug's births and deaths."""
        if self.style == "plain":
            topic = f"{self._line}/availability"
            return topic, topic
        return self._node("NBIRTH"), self._node("NDEATH")

    def state(self, camera: str) -> str:
        return f"{self._line}/{camera}/state" if self.style == "plain" else self._device("DBIRTH", camera)

    def event(self, camera: str, kind: str) -> str:
        if self.style == "plain":
            return f"{self._line}/{camera}/events/{kind}"
        return self._node("NDATA") if camera == NO_CAMERA else self._device("DDATA", camera)

    def command(self, camera: str) -> str:
        """With `+` for every camera."""
        return f"{self._line}/{camera}/command" if self.style == "plain" else self._device("DCMD", camera)

    def answer(self, camera: str) -> str:
        return f"{self._line}/{camera}/answer" if self.style == "plain" else self._device("DANSWER", camera)

    def camera_of(self, command_topic: str) -> str:
        """The camera that a topic of `command` is about."""
        return command_topic.split("/")[-2 if self.style == "plain" else -1]

    @property
    def _line(self) -> str:
        return f"{self.prefix}/{self.site}/{self.line}"

    def _node(self, message: str) -> str:
        return f"{self.prefix}/{self.site}/{message}/{self.line}"

    def _device(self, message: str, camera: str) -> str:
        return f"{self._node(message)}/{camera}"
