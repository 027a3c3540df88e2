"""Basic and Digest authentication for RTSP (RFC 2617, as cameras do it: MD5, realm and nonce). Pure, both
ends.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field

REALM = "Linewatch camera simulator"
_PAIR = re.compile(r'(\w+)=(?:"([^"]*)"|([^\s,]+))')


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who may look; `repr` doesn't show the password."""

    username: str
    password: str = field(repr=False)


def challenges(schemes: tuple[str, ...], nonce: str) -> list[str]:
    """Values for WWW-Authenticate, one for each of the schemes `digest` and `basic`."""
    known = {
        "digest": f'Digest realm="{REALM}", nonce="{nonce}", algorithm=MD5',
        "basic": f'Basic realm="{REALM}"',
    }
    return [known[scheme] for scheme in schemes]


def accepted(
    header: str | None, method: str, credentials: Credentials, schemes: tuple[str, ...], nonce: str
) -> bool:
    """Whether an Authorization header proves that the client knows the password."""
    scheme, _, rest = (header or "").partition(" ")
    if scheme.lower() not in schemes:
        return False
    if scheme.lower() == "basic":
        return _same(rest.strip(), _basic(credentials))
    said = parameters(rest)
    if said.get("username") != credentials.username or not _same(said.get("nonce", ""), nonce):
        return False
    expected = digest_response(credentials, method, said.get("uri", ""), said.get("realm", ""), nonce, said)
    return said.get("realm") == REALM and _same(said.get("response", ""), expected)


def authorization(challenge: str, method: str, uri: str, credentials: Credentials) -> str:
    """The Authorization header that answers a challenge (a client's side)."""
    scheme, _, rest = challenge.partition(" ")
    if scheme.lower() == "basic":
        return "Basic " + _basic(credentials)
    said = parameters(rest)
    realm, nonce = said.get("realm", ""), said.get("nonce", "")
    response = digest_response(credentials, method, uri, realm, nonce, {})
    return (
        f'Digest username="{credentials.username}", realm="{realm}", nonce="{nonce}", uri="{uri}", '
        f'response="{response}"'
    )


def parameters(text: str) -> dict[str, str]:
    """`name="value", name=value` as a dict."""
    return {name.lower(): quoted or plain for name, quoted, plain in _PAIR.findall(text)}


def digest_response(
    credentials: Credentials, method: str, uri: str, realm: str, nonce: str, said: dict[str, str]
) -> str:
    """RFC 2617, 3.2.2.1; with a quality of protection when the client named one."""
    secret = _md5(f"{credentials.username}:{realm}:{credentials.password}")
    action = _md5(f"{method}:{uri}")
    if said.get("qop"):
        middle = f"{nonce}:{said.get('nc', '')}:{said.get('cnonce', '')}:{said['qop']}"
        return _md5(f"{secret}:{middle}:{action}")
    return _md5(f"{secret}:{nonce}:{action}")


def _basic(credentials: Credentials) -> str:
    return base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _same(a: str, b: str) -> bool:
    return hmac.compare_digest(a.encode(), b.encode())
