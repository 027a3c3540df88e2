"""Logins, roles and the audit line: who may do what, decided before any route.

`needed` is the whole policy. Without a users file everybody is `local` with every right: such a page
listens on loopback only, or its owner said `insecure`.
"""

import asyncio
import logging
import time
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .schemas import ErrorOut, In
from .sessions import LoginLimit, Sessions
from .users import MAX_PASSWORD, ROLES, Role, Users

audit = logging.getLogger("linewatch.audit")

COOKIE = "linewatch"
_OPEN = ("/live", "/ready", "/startup", "/", "/api/v1/login", "/api/v1/logout", "/api/v1/me")
_ADMIN = ("/api/v1/models", "/api/v1/config")
_ADMIN_ENDS = ("/threshold", "/zones")
_CHECKS_AT_ONCE = 2
_NO_LOGIN: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorOut, "description": "User or password is wrong"},
    409: {"model": ErrorOut, "description": "There are no users here"},
    429: {"model": ErrorOut, "description": "Too many wrong passwords; Retry-After says when"},
}
# How soon what is open ends for somebody who may look no more.
_LOOK_EVERY_S = 10.0
# Guesses at one user from all addresses together: far above what one address may, so that nobody can keep
# a user out from elsewhere.
_BY_NAME_BURST, _BY_NAME_EVERY_S = 100, 2.0


def needed(method: str, path: str) -> Role | None:
    """The role that a request needs; None = nobody has to be known. Looking is for viewers, answering for
    operators, what changes how the line decides is for admins; what isn't named here and changes something
    is for operators.
    """
    if path in _OPEN or path.startswith(
        ("/static/", "/whip/")
    ):  # a camera that pushes has a token of its own
        return None
    if method in ("GET", "HEAD", "OPTIONS") or path.startswith("/whep/"):
        return "viewer"
    return "admin" if path.endswith(_ADMIN_ENDS) or path.startswith(_ADMIN) else "operator"


class Access:
    """Users, their sessions, and their failed guesses. One event loop."""

    def __init__(
        self,
        users: Users | None,
        *,
        session_hours: float = 12.0,
        secure: bool = False,
        cookie: str = COOKIE,
    ) -> None:
        """`cookie` is its name: a browser sends it to all ports of a host, and two lines on one host that
        shared it would log each other's users out.
        """
        self.users = users
        self.cookie = cookie
        self.sessions = Sessions(session_hours * 3600)
        self.by_address = LoginLimit()
        self.by_name = LoginLimit(_BY_NAME_BURST, _BY_NAME_EVERY_S)
        self.secure = secure
        self.checks = asyncio.Semaphore(_CHECKS_AT_ONCE)

    def who(self, headers: Headers) -> tuple[str, Role] | None:
        """Name and role of a request's sender, by bearer token or session cookie."""
        if self.users is None:
            return "local", "admin"
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.users.token_role(token.strip())
        opened = self.sessions.user(self.cookie_of(headers), time.monotonic())
        role = self.users.role_now(*opened) if opened else None
        return (opened[0], role) if opened and role else None

    def cookie_of(self, headers: Headers) -> str:
        """The session cookie's value, or nothing. Other programs on this host set cookies of any form."""
        return cookie_parser(headers.get("cookie", "")).get(self.cookie, "")


class Gate:
    """Lets a request pass whose sender has the role that it needs, and writes one line for every change."""

    def __init__(self, app: ASGIApp, *, access: Access) -> None:
        self.app = app
        self.access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        who, role = self.access.who(Headers(scope=scope)) or (None, None)
        wanted = needed(scope["method"], scope["path"])
        if not _reaches(role, wanted):
            said = f"This needs the role {wanted}." if who else "Log in first."
            self._note(scope, who, 403 if who else 401)
            return await JSONResponse({"detail": said}, 403 if who else 401)(scope, receive, send)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._note(scope, who, message["status"])
            await send(message)

        def is_allowed() -> bool:
            return _reaches((self.access.who(Headers(scope=scope)) or (None, None))[1], wanted)

        scope.setdefault("state", {}).update(who=(who, role), is_allowed=is_allowed)
        await self.app(scope, receive, noted)

    def _note(self, scope: Scope, who: str | None, status: int) -> None:
        if scope["method"] in ("GET", "HEAD", "OPTIONS") or scope["path"].startswith("/whep/"):
            return
        client = scope.get("client") or ("?", 0)
        # %r: a path can't forge a second line.
        audit.info(
            "%s %r by %s from %s: %d", scope["method"], scope["path"], who or "nobody", client[0], status
        )


def _reaches(role: Role | None, wanted: Role | None) -> bool:
    return wanted is None or (role is not None and ROLES.index(role) >= ROLES.index(wanted))


async def until_forbidden(scope: Scope) -> None:
    """Returns when the sender of a request may make it no more: the session is over, the password was
    changed, the user removed. For answers that never end.
    """
    while scope["state"]["is_allowed"]():  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_EVERY_S)


class LoginIn(In):
    """A user's name and password."""

    user: Annotated[str, Field(max_length=64)]
    password: Annotated[str, Field(max_length=MAX_PASSWORD)]


class MeOut(BaseModel):
    """Who is asking; `login` says whether there are users at all."""

    user: str | None
    role: Role | None
    login: bool


def build(access: Access) -> APIRouter:
    """Routes to log in, out, and to ask who one is."""
    router = APIRouter(prefix="/api/v1", tags=["users"])

    @router.post("/login", response_model=MeOut, responses=_NO_LOGIN)
    async def login(said: LoginIn, request: Request) -> Response:
        """Opens a session, kept in a cookie that scripts can't read."""
        if access.users is None:
            return JSONResponse({"detail": "There are no users here; nobody has to log in."}, 409)
        address, now = request.client.host if request.client else "?", time.monotonic()
        limits = ((access.by_address, (address,)), (access.by_name, (said.user,)))
        if (wait_s := max(limit.wait_s(keys, now) for limit, keys in limits)) > 0:
            detail = f"Too many wrong passwords; try again in {wait_s:.0f} s."
            return JSONResponse({"detail": detail}, 429, {"retry-after": str(int(wait_s) + 1)})
        # Counted before the check, so that guesses that come at once don't pass together.
        for limit, keys in limits:
            limit.failed(keys, now)
        async with access.checks:
            mark = access.users.mark_of(said.user)
            role = await asyncio.to_thread(access.users.password_role, said.user, said.password)
        if role is None:
            audit.warning("a login as %r from %s failed", said.user, address)
            return JSONResponse({"detail": "User or password is wrong."}, 401)
        for limit, keys in limits:
            limit.forgive(keys)
        answer = JSONResponse(MeOut(user=said.user, role=role, login=True).model_dump())
        value = access.sessions.open(said.user, mark, time.monotonic())
        answer.set_cookie(
            access.cookie, value, httponly=True, samesite="strict", secure=access.secure, path="/"
        )
        return answer

    @router.post("/logout")
    async def logout(request: Request) -> Response:
        """Ends the session."""
        access.sessions.close(access.cookie_of(request.headers))
        answer = JSONResponse({})
        answer.delete_cookie(access.cookie, path="/")
        return answer

    @router.get("/me")
    async def me(request: Request) -> MeOut:
        """Who is asking."""
        who, role = access.who(request.headers) or (None, None)
        return MeOut(user=who, role=role, login=access.users is not None)

    return router
