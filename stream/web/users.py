"""Who may use the page: a file of users and machine tokens, each with a role.

    version: 1
    users: {anna: {role: operator, password: "$argon2id$…"}}
    tokens: {mes: {role: viewer, sha256: "…"}}

Passwords are stored as Argon2id by argon2-cffi; tokens are 256 random bits, for which a plain hash is
enough. The file is read again when it changes; a broken new one changes nothing and is reported.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import shlex
from pathlib import Path
from typing import Annotated, Literal

import yaml
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config.fields import is_version, other_version

from .errors import WebError

log = logging.getLogger(__name__)

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")
NAME = r"^[a-z0-9_.-]{1,64}$"
MIN_PASSWORD = 10
MAX_PASSWORD = 256
_HASHER = PasswordHasher()
# Checked where there is no such user, so that an answer takes as long as for one that there is.
_NOBODY = _HASHER.hash(secrets.token_urlsafe())

_Name = Annotated[str, Field(pattern=NAME)]


class UsersError(WebError):
    """The users file can't be used."""

    exit_code = 2


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    role: Role


class _User(_Entry):
    password: str = Field(pattern=r"^\$argon2id\$")


class _Token(_Entry):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class UsersFile(BaseModel):
    """The file's content."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: Annotated[int, is_version(1)] = 1
    users: dict[_Name, _User] = {}
    tokens: dict[_Name, _Token] = {}


class Users:
    """Answers who somebody is. `password_role` takes 50 ms of CPU: not for the event loop."""

    def __init__(self, path: Path) -> None:
        """Raises UsersError when the file is missing, broken or without a user."""
        self._path = path
        self._stamp = _stamp(path)
        self._file = read(path)
        if not self._file.users:
            raise UsersError(f"{path} has no users: add one with {_how_to_add(path)}.")

    def password_role(self, name: str, password: str) -> Role | None:
        """The role of a user with this password, or None."""
        user = self._now().users.get(name)
        try:
            _HASHER.verify(user.password if user else _NOBODY, password[:MAX_PASSWORD])
        except (VerificationError, InvalidHashError):
            return None
        return user.role if user else None

    def mark_of(self, name: str) -> str:
        """What tells a user's password from the next one; "" for nobody."""
        user = self._now().users.get(name)
        return user.password if user else ""

    def role_now(self, name: str, mark: str) -> Role | None:
        """The role of a user who has logged in before; None once removed, or with another password."""
        user = self._now().users.get(name)
        return user.role if user and user.password == mark else None

    def token_role(self, token: str) -> tuple[str, Role] | None:
        """Name and role of a machine's bearer token, or None."""
        digest = hashlib.sha256(token.encode()).hexdigest()
        for name, entry in self._now().tokens.items():
            if hmac.compare_digest(entry.sha256, digest):
                return name, entry.role
        return None

    def _now(self) -> UsersFile:
        if (stamp := _stamp(self._path)) != self._stamp:
            self._stamp = stamp
            try:
                self._file = read(self._path)
            except UsersError as error:
                log.error("%s The users from before go on.", error)
        return self._file


def read(path: Path) -> UsersFile:
    """Raises UsersError, one sentence that shows no hash."""
    try:
        return UsersFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except FileNotFoundError as error:
        raise UsersError(
            f"The users file {path} can't be read: {error.strerror}; make it with {_how_to_add(path)}."
        ) from error
    except OSError as error:
        raise UsersError(f"The users file {path} can't be read: {error.strerror}.") from error
    except ValidationError as error:
        places = ", ".join(".".join(map(str, mistake["loc"])) or "the file" for mistake in error.errors())
        other = other_version(error)
        told = f"can't be read: {other}" if other else f"has mistakes at: {places}"
        raise UsersError(f"The users file {path} {told}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a 13th month, no UTF-8
        raise UsersError(f"The users file {path} is not YAML.") from error


def write(path: Path, content: UsersFile) -> None:
    """Temporary file, then rename; readable by its owner only, and by its group where it was.

    What root writes belongs to whom it belonged, else to the folder's owner: the line runs as another user.
    Raises UsersError.
    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.stat() if path.exists() else None
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        unfinished.write_text(yaml.safe_dump(content.model_dump(), sort_keys=False))
        if os.geteuid() == 0:
            owner = before or path.parent.stat()
            os.chown(unfinished, owner.st_uid, owner.st_gid)
        unfinished.chmod(0o600 | (before.st_mode & 0o040 if before else 0))
        unfinished.replace(path)
    except OSError as error:
        raise UsersError(
            f"The users file {path} can't be written: {error.strerror}; do it as the user who may, or name "
            "another web.users_file."
        ) from error


def with_user(content: UsersFile, name: str, role: Role, password: str) -> UsersFile:
    """The content with one more user, or another password. Raises UsersError."""
    _check_name(name)
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise UsersError(f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters.")
    user = _User(role=role, password=_HASHER.hash(password))
    return content.model_copy(update={"users": {**content.users, name: user}})


def with_token(content: UsersFile, name: str, role: Role) -> tuple[UsersFile, str]:
    """The content with one more machine, and its token, which is not stored. Raises UsersError."""
    _check_name(name)
    token = secrets.token_urlsafe(32)
    entry = _Token(role=role, sha256=hashlib.sha256(token.encode()).hexdigest())
    return content.model_copy(update={"tokens": {**content.tokens, name: entry}}), token


def without(content: UsersFile, name: str) -> UsersFile:
    """The content without a user or machine. Raises UsersError."""
    if name not in content.users and name not in content.tokens:
        raise UsersError(f"There is no user or machine {name!r}.")
    users = {key: user for key, user in content.users.items() if key != name}
    tokens = {key: token for key, token in content.tokens.items() if key != name}
    return content.model_copy(update={"users": users, "tokens": tokens})


def _how_to_add(path: Path) -> str:
    """With the file's name: the config file that names it need not be the one that the command would find."""
    return f"`linewatch users --file {shlex.quote(str(path))} add NAME --role admin`"


def _check_name(name: str) -> None:
    if not re.fullmatch(NAME, name):
        raise UsersError(f"The name {name!r} may have small letters, digits and . _ - only, 64 at most.")


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
