"""A Modbus TCP server for a PLC: the register map of deploy/bridges.md.

    bridges:
      plc: {type: modbus, listen: "10.0.20.5:502", stations: {top: {address: 100}, side: {address: 200}}}

Modbus knows no users and no encryption: listen on the address of the PLC's own network.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from config.fields import Name, Section
from config.services import listen_address

from ..events import Event
from .modbus_map import CAMERA_REGISTERS, LINE_REGISTERS, Handshake, OnLoss, overlapping
from .sink import BridgeOptions, Key, Line

if TYPE_CHECKING:
    from .modbus_server import ModbusSink

NEEDS = {"pymodbus": "linewatch[modbus]"}


class StationOptions(Section):
    """Where one camera's registers stand."""

    address: int = Field(ge=0, le=0x10000 - CAMERA_REGISTERS)
    """First register of the camera's block of 64, counted from 0."""


class Options(BridgeOptions):
    """Keys of a bridge of type modbus."""

    listen: Annotated[str, AfterValidator(listen_address)] = "127.0.0.1:5020"
    """ADDRESS:PORT of the server."""
    line_address: int = Field(default=0, ge=0, le=0x10000 - LINE_REGISTERS)
    """First register of the line's block of 8: map version, heartbeat."""
    stations: dict[Name, StationOptions] = Field(min_length=1, max_length=256)
    """The cameras, each with its address: a map that stays when a camera is added."""
    handshake: Handshake = "reject"
    """What waits for the PLC's acknowledgement: reject (ng and unknown), or every result."""
    on_loss: OnLoss = "reject"
    """The reject bit while the line can't be relied on: reject sets it, clear clears it, hold leaves it."""

    @model_validator(mode="after")
    def _own_registers(self) -> Self:
        blocks = {name: range(s.address, s.address + CAMERA_REGISTERS) for name, s in self.stations.items()}
        blocks["line_address"] = range(self.line_address, self.line_address + LINE_REGISTERS)
        if pair := overlapping(blocks):
            raise PydanticCustomError(
                "registers",
                "the registers of {one} ({a} to {b}) and {other} (from {c}) overlap, expected apart",
                {
                    "one": pair[0],
                    "other": pair[1],
                    "a": blocks[pair[0]].start,
                    "b": blocks[pair[0]].stop - 1,
                    "c": blocks[pair[1]].start,
                },
            )
        if self.cameras is not None:
            raise PydanticCustomError("registers", "cameras: the cameras of this bridge are its stations")
        return self

    @property
    def named_cameras(self) -> Mapping[str, Key]:
        """The stations."""
        return {name: ("stations", name) for name in self.stations}

    def wants(self, event: Event) -> bool:
        """What its stations show: for all else there is no register."""
        return event.camera in self.stations and super().wants(event)

    @property
    def alone(self) -> tuple[Key, str]:
        """The address."""
        return ("listen",), self.listen


def build(options: Options, line: Line) -> "ModbusSink":
    """The server starts with its `run`."""
    from .modbus_server import ModbusSink

    return ModbusSink(options, line)
