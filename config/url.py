"""CameraUrl: an address whose str() and repr() can't show a password; it is revealed in one place."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from pydantic import SecretStr

from .redaction import HIDDEN, redacted


@dataclass(frozen=True, slots=True)
class SplitUrl:
    """A URL without what stood before the `@`, and that, percent-decoded."""

    url: str
    username: str | None
    password: SecretStr | None


def split_credentials(url: str) -> SplitUrl:
    """Take user and password out of `url`; the last `@` of the authority ends them.

    urllib is not asked: with `#`, `?` or `/` in an unencoded password it takes a part of it for the host.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return SplitUrl(url, None, None)
    end = min((at for mark in "/?#" if (at := rest.find(mark)) >= 0), default=len(rest))
    cut = rest.rfind("@", 0, end)
    if cut < 0:
        cut = _late_at(rest, end)
    if cut < 0:
        return SplitUrl(url, None, None)
    username, colon, password = rest[:cut].partition(":")
    return SplitUrl(
        f"{scheme}://{rest[cut + 1 :]}",
        unquote(username) or None,
        SecretStr(unquote(password)) if colon else None,
    )


def _late_at(rest: str, end: int) -> int:
    """The `@` after an unencoded `/ ? #` in a password: only where `user:` comes first, and no port."""
    user, colon, tail = rest[:end].partition(":")
    if not (user and colon) or tail.isdigit() or user.startswith("["):
        return -1
    return rest.rfind("@")


@dataclass(frozen=True, slots=True)
class CameraUrl:
    """Where a camera is and how we log in. Only `reveal()` gives a secret away.

    `_address` has no user and no password in it.
    """

    _address: str
    username: str | None = None
    password: SecretStr | None = None

    @property
    def url(self) -> str:
        """Without credentials, for every text: scheme and host are right, a secret behind them is ***."""
        scheme, _, rest = self._address.partition("://")
        if "@" not in rest:
            return redacted(self._address)
        # The @ of a path, or of a password that was taken for a port: nobody can tell.
        host = re.match(r"\[[^\]]*\]|[^:/?#@]*", rest)
        return f"{scheme}://{host[0] if host else ''}/{HIDDEN}"

    def reveal(self) -> str:
        """The URL with user and password percent-encoded: for the connecting call only, never for a text."""
        secret = self.password.get_secret_value() if self.password else None
        return self._with_password(self._address, None if secret is None else quote(secret, safe=""))

    def _with_password(self, address: str, password: str | None) -> str:
        if not self.username and password is None:
            return address
        scheme, _, rest = address.partition("://")
        user = quote(self.username or "", safe="")
        return f"{scheme}://{user}{'' if password is None else f':{password}'}@{rest}"

    def __str__(self) -> str:
        return self._with_password(self.url, None if self.password is None else HIDDEN)

    def __repr__(self) -> str:
        return f"CameraUrl({str(self)!r})"
