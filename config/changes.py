"""What differs between the settings in force and a file that was edited (pure).

Cameras, what holds for all of them, verdicts on parts and the logs change while the line runs. Everything
else was decided when the line started (which broker, which device, which address): it waits for the next
start.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .fields import Section
from .settings import CameraSettings, Settings, takes_any_push

LIVE = ("defaults", "cameras", "parts", "triggers", "logs")


@dataclass(frozen=True, slots=True)
class Changes:
    """From `before` to `after`, the settings in force from now on: those of the file where they can change
    while the line runs, those of `before` where not.

    `added`, `removed` and `changed` are cameras that run (an `enabled: false` removes one), in the file's
    order. `at_next_start`: keys that wait for a restart.
    """

    before: Settings
    after: Settings
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    at_next_start: tuple[str, ...]

    @property
    def any(self) -> bool:
        """Whether anything in force changes."""
        return any(getattr(self.before, key) != getattr(self.after, key) for key in LIVE)


def compare(before: Settings, file: Settings) -> Changes:
    """`before` is in force, `file` was read just now."""
    after = before.updated({key: getattr(file, key) for key in LIVE})
    old, new = enabled(before), enabled(after)
    waiting = [
        key
        for section in Settings.model_fields
        if section not in LIVE
        for key in _different(section, getattr(before, section), getattr(file, section))
    ]
    return Changes(
        before,
        after,
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(name for name in new if name in old and new[name] != old[name]),
        at_next_start=tuple(waiting),
    )


def enabled(settings: Settings) -> dict[str, CameraSettings]:
    """The cameras that run."""
    return {name: camera for name, camera in settings.cameras.items() if camera.enabled}


def unsafe_pushes(after: Settings) -> list[str]:
    """Cameras that would take pushes from anybody: the page listens where it did, whatever the file says."""
    web = after.web
    return [] if web.is_loopback or web.insecure else takes_any_push(after.cameras)


def _different(key: str, one: Any, other: Any) -> Iterator[str]:
    """The dotted keys below `key` whose values differ; values are never shown."""
    if isinstance(one, Section) and type(one) is type(other):
        for name, info in type(one).model_fields.items():
            yield from _different(f"{key}.{info.alias or name}", getattr(one, name), getattr(other, name))
        yield from _different(key, one.model_extra or {}, other.model_extra or {})
    elif isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in dict.fromkeys([*one, *other]):
            yield from _different(f"{key}.{name}", one.get(name), other.get(name))
    elif one != other:
        yield key
