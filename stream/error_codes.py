"""What a PLC reads in a camera's `error_code`: 0 is well, a camera's own trouble is below 10."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .condition import State

BY_STATE: Mapping["State", int] = {"live": 0, "connecting": 1, "down": 2, "frozen": 3, "refused": 4}
NO_MODEL, DISABLED, DISK, STUCK, BLIND, DEAF = 10, 11, 12, 13, 14, 15

WORDS: Mapping[int, str] = {
    0: "ready",
    1: "connecting",
    2: "down",
    3: "frozen",
    4: "refused",
    NO_MODEL: "no model",
    DISABLED: "disabled",
    DISK: "events can't be stored",
    STUCK: "device stuck",
    BLIND: "pictures come and none is inspected",
    DEAF: "triggers can't be read",
}
