"""What looks like a secret in a key or a text, and the text without it: the same for logs, addresses and
messages.
"""

import re

HIDDEN = "***"

_WORDS = r"passw|passphrase|secret|token|credential|api_?key|private_key"
# Its last letter: to look for its first takes half a minute in a line of 64 KB, and holds everything up.
_SCHEME = r"[a-z0-9+.-]://"

SECRET_KEY = re.compile(_WORDS, re.IGNORECASE)
"""Keys whose values are treated as secrets."""


def _without_login(found: re.Match[str]) -> str:
    begin, rest = found.groups()
    end = rest.rfind("@")
    return f"{begin}{HIDDEN}{rest[end:]}" if end >= 0 else found[0]


# Each takes a time in proportion to the text's length, whatever is in it: others' lines are long, and hold
# addresses by the thousand.
_FORMS = tuple(
    (re.compile(form, re.IGNORECASE), replacement)
    for form, replacement in (
        # user:password@ in any address, up to the last @ of the word. Without a colon too: where a password
        # holds @ and then / or #, its tail looks like that.
        (rf"({_SCHEME}(?:[^\s:/@'\"]*:)?)([^\s'\"]*)", _without_login),
        # /user:password in its path. Media servers write the kind of a file so: vod/mp4:name.
        (
            rf"({_SCHEME}[^\s/?#'\"]+/(?:(?:(?!://)[^\s?#'\"])*?/)?(?!(?:mp4|flv|smil):)[^\s:/?#'\"]+:)"
            r"[^\s/?#'\"]+",
            rf"\1{HIDDEN}",
        ),
        (r"(\b(?:bearer|basic|digest)\s+)[A-Za-z0-9+/=._~-]{8,}", rf"\1{HIDDEN}"),
        # password=… in a query or a path; the short words are those of cameras.
        (rf"(\b(?=\w+=)\w*(?:(?:{_WORDS})\w*|pass?|pwd|psw|pw|auth)=)[^\s&'\"]+", rf"\1{HIDDEN}"),
    )
)


def redacted(text: str) -> str:
    """`text` with *** for whatever has the form of a secret."""
    for form, replacement in _FORMS:
        text = form.sub(replacement, text)
    return text
