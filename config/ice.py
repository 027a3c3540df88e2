"""STUN and TURN servers, by which WebRTC finds a way through NAT and firewalls."""

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, WithJsonSchema, model_validator
from pydantic_core import CoreSchema, PydanticCustomError

from .fields import Secret, Section

_PLACE = r"[^\s/?:@]+(:[0-9]{1,5})?"
# aiortc leaves stuns: out without a word.
_ADDRESS = rf"(stun:{_PLACE}|turns?:{_PLACE}(\?transport=(udp|tcp))?)"


def _checked(text: str) -> str:
    _, _, place = text.partition("?")[0].partition(":")
    port = int(place.partition(":")[2] or 3478) if re.fullmatch(_ADDRESS, text) else 0
    if not 1 <= port <= 65535:
        raise PydanticCustomError(
            "ice_server", "is no address of a STUN or TURN server, expected stun:HOST:PORT or turn:HOST:PORT"
        )
    return text


class IceServer(Section):
    """A STUN or TURN server. In the file a text alone is its address."""

    url: Annotated[
        str,
        AfterValidator(_checked),
        WithJsonSchema({"type": "string", "pattern": f"^{_ADDRESS}$"}),
    ]
    """stun:HOST:PORT or turn:HOST:PORT."""
    username: str | None = Field(default=None, min_length=1)
    """Who we are to the TURN server."""
    credential: Secret | None = None
    """The password that goes with it."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """In the file a text alone will do: editors shall know."""
        keys = handler.resolve_ref_schema(handler(core))
        address = keys["properties"]["url"]
        return {"anyOf": [{**address, "title": "Address"}, dict(keys)], "description": cls.__doc__}

    @model_validator(mode="before")
    @classmethod
    def _text_is_the_address(cls, raw: Any) -> Any:
        # Checked here already: a mistake in a text is the text's own, not that of a key it doesn't have.
        return {"url": _checked(raw)} if isinstance(raw, str) else raw

    @model_validator(mode="after")
    def _both_and_for_turn(self) -> Self:
        if (self.username is None) != (self.credential is None):
            raise PydanticCustomError("ice_login", "username and credential belong together, one is missing")
        if self.username is not None and not self.url.startswith("turn"):
            raise PydanticCustomError("ice_login", "only a TURN server takes a username and a credential")
        return self
