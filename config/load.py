"""The config file, the environment and secret files → Settings, or every mistake at once.

ConfigError   what the operator wrote can't be used; nothing was started (exit code 2)

Which file: the one that is named, else LINEWATCH_CONFIG, else ./cameras.yaml.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from . import bridges, document, environment
from .document import Document, Mistake, dotted
from .environment import Overrides
from .fields import ReadContext
from .mistakes import key_of, sentence
from .redaction import SECRET_KEY, redacted
from .settings import Settings
from .url import split_credentials
from .zones import ZonesError, drawn_over

DEFAULT_FILE = Path("cameras.yaml")
FILE_VARIABLE = "LINEWATCH_CONFIG"
_EMPTY_SECRET = "is empty; put it in quotes, or leave the key out"


class ConfigError(Exception):
    """The settings can't be used. `lines`: a sentence each, `file:line: key: …`, none with a secret."""

    user_message = True
    exit_code = 2

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


def find(path: Path | str | None = None, env: Mapping[str, str] | None = None) -> Path:
    """The file that `load` would read; it need not exist."""
    env = os.environ if env is None else env
    return Path(path or env.get(FILE_VARIABLE) or DEFAULT_FILE)


def is_there() -> bool:
    """Whether the file that `find` names is there; also where nobody may look: `load` then says so."""
    try:
        return S_ISREG(find().stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def load(path: Path | str | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Read the file that `find` names, and what was drawn on the page. `env` replaces the process's
    environment, for tests.

    Raises ConfigError with all mistakes. Safe in any thread; reads files, touches nothing else.
    """
    env = os.environ if env is None else env
    file = find(path, env)
    settings = parse(_text(file), name=str(file), folder=file.absolute().parent, env=env)
    return with_drawn(settings.noted(file.absolute()))


def with_drawn(settings: Settings) -> Settings:
    """Settings with the areas that were drawn on the page. Raises ConfigError."""
    try:
        return drawn_over(settings)
    except ZonesError as error:
        raise ConfigError([str(error)]) from error


def parse(text: str, *, name: str, folder: Path, env: Mapping[str, str] | None = None) -> Settings:
    """Settings from a file's `text`, for an editor or a REST call: `name` is what messages call it.

    Relative paths count from `folder`. Raises ConfigError with all mistakes.
    """
    env = os.environ if env is None else env
    read, overrides, context = document.read(text, name), environment.read(env), ReadContext(folder, env)
    mistakes = [*read.mistakes, *overrides.mistakes]
    if read.root is None:
        raise ConfigError(map(str, mistakes))
    data = environment.merged(read.data, overrides.data)
    for bridge, why in bridges.lacking(data):
        key = ("bridges", bridge, "type")
        mistakes.append(Mistake(read.name, read.line_of(key)[0], dotted(key), why))
    empty = _empty_secrets(data, read, overrides)
    mistakes += [Mistake(read.name, read.line_of(key)[0], dotted(key), _EMPTY_SECRET) for key in empty]
    try:
        settings = Settings.model_validate(data, context=context)
    except ValidationError as error:
        wrong = [detail for detail in error.errors(include_url=False) if key_of(detail) not in empty]
        mistakes += [_mistake(detail, read, overrides) for detail in wrong]
    if mistakes:
        raise ConfigError(_hidden(sorted(mistakes), read.data, overrides.data))
    return settings.noted(None, (*_warnings(read), *overrides.warnings), tuple(sorted(context.files)))


def placed(file: Path, key: document.Path, text: str) -> str:
    """A mistake that only the running line can see, in the words of the others: `file:line: key: text`."""
    read = document.read(_text(file), str(file))
    return str(Mistake(read.name, read.line_of(key)[0], dotted(key), text))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            [f"{file}: there is no such file; name one with --config or {FILE_VARIABLE}"]
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: is not UTF-8 text (byte {error.start})"]) from None
    except OSError as error:
        raise ConfigError([f"{file}: can't be read: {error.strerror}"]) from None


def _mistake(error: ErrorDetails, read: Document, overrides: Overrides) -> Mistake:
    path = key_of(error)
    if (
        error["type"].startswith("union_tag")
        and isinstance(error["input"], dict)
        and "type" in error["input"]
    ):
        path = (*path, "type")
    line, depth = read.line_of(path)
    if variable := overrides.variable_of(path, depth):
        return Mistake(f"environment {variable}", 0, dotted(path), sentence(error))
    return Mistake(read.name, line, dotted(path), sentence(error))


def _leaves(value: Any, path: document.Path = ()) -> Iterator[tuple[document.Path, Any]]:
    """(key, value) of everything that is no list or mapping."""
    if isinstance(value, dict | list):
        for step, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, (*path, step))
    else:
        yield path, value


def _is_secret(path: document.Path) -> bool:
    key = path[-1] if path else None
    return isinstance(key, str) and bool(SECRET_KEY.search(key)) and not key.endswith("_file")


def _empty_secrets(data: Any, read: Document, overrides: Overrides) -> list[document.Path]:
    """The secrets that the file writes without a value, as `password: #abc` does. The environment may."""
    empty = [path for path, value in _leaves(data) if value is None and _is_secret(path)]
    return [path for path in empty if not overrides.variable_of(path, read.line_of(path)[1])]


def _literal_secrets(value: Any) -> Iterator[tuple[document.Path, str]]:
    """(key, text) of every password that stands in the file itself, or inside a URL there."""
    for path, text in _leaves(value):
        if not isinstance(text, str):
            continue
        if _is_secret(path):
            yield path, text
        elif (password := split_credentials(text).password) is not None:
            yield path, password.get_secret_value()


def _warnings(read: Document) -> Iterator[str]:
    for path, value in _leaves(read.data):
        if isinstance(value, str) and (text := _unwise(path, value, read)):
            yield str(Mistake(read.name, read.line_of(path)[0], dotted(path), text))


def _unwise(path: document.Path, value: str, read: Document) -> str | None:
    if _is_secret(path):
        if read.ends_before_a_comment(path):
            return "a literal secret, and what follows the # is no part of it; put it in quotes"
        return "a literal secret, better {file: PATH} or {env: NAME}"
    split = split_credentials(value)
    if split.password is not None:
        return "user and password stand inside the address, better in the keys username and password"
    if str(path[-1]) == "url" and redacted(split.url) != split.url:
        return (
            "a secret stands inside the address itself, where everybody who reads this file sees it; better "
            "in the keys username and password, if the camera takes them"
        )
    return None


def _hidden(mistakes: list[Mistake], *raws: Any) -> Iterator[str]:
    """Belt and braces: no message shows a value, and if one did, a secret would be starred out here."""
    secrets = sorted({text for raw in raws for _, text in _literal_secrets(raw) if len(text) > 3}, key=len)
    for mistake in mistakes:
        line = str(mistake)
        for secret in reversed(secrets):
            line = line.replace(secret, "***")
        yield line
