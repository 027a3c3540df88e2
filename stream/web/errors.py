"""What can go wrong in the web room.

WebError
 ├── ListenError    the address can't be listened on, or must not be
 ├── Full           every viewer's seat is taken; answered with 503
 ├── Refused        an action that can't be done now; answered with 409
 └── Gone           what was named isn't there, or not any more; answered with 404
"""


class WebError(Exception):
    """Base of everything the web room raises on purpose; its text is one sentence for a person."""

    user_message = True


class ListenError(WebError):
    """The address is in use, not ours, or open to others without users."""


class Full(WebError):
    """Too many viewers at once."""


class Refused(WebError):
    """What an action of LineActions raises when it can't be done; the text is shown to the person."""


class Gone(WebError):
    """What was named isn't there; the text is shown to the person."""
