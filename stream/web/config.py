"""Routes about the config file: its schema, what a text would be told, and reading it now."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from config.settings import json_schema

from .schemas import ErrorOut
from .view import ConfigView


class ConfigOut(BaseModel):
    """The settings in force, and what became of the last edit. `mistakes`, as `file:line: key: …`: nothing
    changed. `at_next_start`: keys that the running line can't change.
    """

    model_config = ConfigDict(from_attributes=True)

    file: str
    sha256: str
    mistakes: list[str]
    added: list[str]
    removed: list[str]
    changed: list[str]
    at_next_start: list[str]
    warnings: list[str]


def build(
    view: Callable[[], ConfigView],
    validate: Callable[[str], Awaitable[ConfigView]],
    reload: Callable[[], Awaitable[ConfigView]],
) -> APIRouter:
    """`reload` raises Refused. Changing asks for the role admin (web/access.py)."""
    router = APIRouter(prefix="/api/v1/config", tags=["config"])
    schema = json.dumps(json_schema(), ensure_ascii=False).encode()

    @router.get("")
    async def config() -> ConfigOut:
        """What is in force."""
        return ConfigOut.model_validate(view())

    @router.get("/schema", response_class=Response)
    async def config_schema() -> Response:
        """The JSON Schema of the config file, for editors."""
        return Response(schema, media_type="application/schema+json")

    @router.post("/validate", openapi_extra=_TEXT)
    async def validate_text(request: Request) -> ConfigOut:
        """What the YAML text of the body would be told in place of the file; changes nothing."""
        text = (await request.body()).decode("utf-8-sig", "replace")
        return ConfigOut.model_validate(await validate(text))

    @router.post("/reload", responses={409: {"model": ErrorOut}, 422: {"model": ConfigOut}})
    async def reload_file(response: Response) -> ConfigOut:
        """Read the file now and carry out what differs; 422 with its mistakes changes nothing."""
        now = await reload()
        response.status_code = 422 if now.mistakes else 200
        return ConfigOut.model_validate(now)

    return router


_TEXT: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/yaml": {"schema": {"type": "string"}}}}
}
