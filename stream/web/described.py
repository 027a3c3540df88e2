"""What the OpenAPI document says of all routes alike: a name, who may ask, and how a refusal looks.

So that a client that is generated from it knows where a token goes, and finds the sentence of every refusal.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from .access import needed
from .schemas import ErrorOut

REFUSALS: dict[int | str, dict[str, Any]] = {
    422: {"model": ErrorOut, "description": "What is wrong with the request"},
    "default": {"model": ErrorOut, "description": "Why not, e.g. 401: log in first, 403: another role may"},
}
_WITHOUT = "Where no web.users_file is named nobody needs one."


def describe(app: FastAPI, cookie: str) -> None:
    """To be called when all routes are there; `cookie` is the name of a session's."""
    for route in app.routes:
        if isinstance(route, APIRoute) and route.description:
            route.summary = _first_sentence(route.description)
    schemes = {
        "token": _bearer(f"A program's token (`linewatch users token NAME`). {_WITHOUT}"),
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": cookie,
            "description": f"A person's session, from POST /api/v1/login. {_WITHOUT}",
        },
        "camera": _bearer("The `source.token` of a camera that pushes."),
    }
    make = app.openapi

    def openapi() -> dict[str, Any]:
        document = make()
        document["components"]["securitySchemes"] = schemes
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                operation["security"] = _security(method.upper(), path)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _first_sentence(docstring: str) -> str:
    return docstring.split("\n\n")[0].replace("\n", " ").partition(". ")[0].rstrip(".")


def _bearer(description: str) -> dict[str, str]:
    return {"type": "http", "scheme": "bearer", "description": description}


def _security(method: str, path: str) -> list[dict[str, list[str]]]:
    """One of these is enough. What stands beside its name is the role."""
    if path.startswith("/whip/"):
        return [{"camera": []}]
    role = needed(method, path)
    return [] if role is None else [{"token": [role]}, {"session": [role]}]
