"""What a config file that was read means here, before anything is tried: `linewatch check` and `linewatch
doctor` say it in the same words.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path

from config.document import Path as Key
from config.load import ConfigError, find, placed
from config.settings import Settings
from config.sources import PushedSource, WebrtcSource
from engine import versions
from engine.errors import EngineError

from .web.errors import WebError
from .web.server import check_listen, check_tls


def headline(settings: Settings) -> str:
    """That the file could be read, and how many cameras it has; whether they answer is another matter."""
    count = len(settings.cameras)
    return f"{settings.file}: read without mistakes; {count} camera{'' if count == 1 else 's'}"


def wrong_page(settings: Settings) -> Iterator[tuple[Key, str]]:
    """Why the page would not start, by key: `linewatch run` refuses the same."""
    web = settings.web
    try:
        check_listen(web.listen, web.users_file, web.insecure)
    except WebError as error:
        yield ("web", "listen"), str(error).removeprefix("web.listen ")
    if web.tls is not None:
        try:
            check_tls(web.tls.cert_file, web.tls.key_file)
        except WebError as error:
            yield ("web", "tls"), str(error).removeprefix("web.tls: ")
    if web.users_file is not None:
        from .web.users import Users  # with the hashing of passwords, which most files don't need

        try:
            Users(web.users_file)
        except WebError as error:
            yield ("web", "users_file"), str(error)


def refuse_wrong_page(settings: Settings) -> None:
    """Raises ConfigError for a page that would not start: a mistake in the file, and no failure of a line
    that another start would mend.
    """
    file = Path(settings.file or "")
    if wrong := [placed(file, key, text) for key, text in wrong_page(settings)]:
        raise ConfigError(wrong)


def without_model(settings: Settings) -> Iterator[tuple[str, str]]:
    """Cameras that would be shown and not inspected, each with why and what to do. No mistake of the file."""
    for name, camera in settings.cameras.items():
        if not camera.enabled:
            continue
        try:
            why = no_model_yet(settings, name)
            if why is None:
                versions.resolve(settings.models.dir, camera.model.ref)
        except (EngineError, OSError) as error:
            why = f"the camera is shown and not inspected: {error}"
        if why is not None:
            yield name, why


def is_sent_to(source: object) -> bool:
    """Whether a camera's pictures come to a running line and to nobody else: by WHIP, or with triggers."""
    return isinstance(source, PushedSource) or (isinstance(source, WebrtcSource) and source.mode == "whip")


def no_model_yet(settings: Settings, name: str) -> str | None:
    """What leads to a camera's model where there is none of its name. Raises EngineError where that can't be
    read.
    """
    model = settings.cameras[name].model.ref.partition("@")[0]
    with versions.readable(settings.models.dir):
        if versions.versions(settings.models.dir, model):
            return None
        others = ", ".join(versions.names(settings.models.dir))
    named = _named(settings)
    capture = f"`linewatch capture {name} --frames 200{named}`"
    if is_sent_to(settings.cameras[name].source):
        capture = "collect good pictures on the page"
    return (
        f"there is no model {model} yet{f' (there is: {others})' if others else ''}: the camera is shown and "
        f"not inspected; {capture}, then "
        f"`linewatch train {model} --data {settings.pictures.dir / name / 'good'}{named}`"
    )


def _named(settings: Settings) -> str:
    """The option that names the config file, where a command would not find it by itself: it would train
    into another folder, where no line looks.
    """
    file = settings.file
    if file is None or find().absolute() == Path(file):
        return ""
    return f" --config {shlex.quote(str(file))}"
