"""The YAML file as text: what it says, on which line each key stands, and what is wrong with its form.

Only plain values are taken: text, number, true/false, null, list, mapping. A key that stands twice, a key
that is no text, an alias that grows without end are mistakes. Nothing here knows what the keys mean.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Path = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_SCALARS = {_TAG + kind for kind in ("str", "int", "float", "bool", "null", "merge")}
# A small file can unfold without end through aliases ("billion laughs").
_MAX_VALUES = 50_000
MAX_CHARS = 512 * 1024


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """Something wrong: `origin` is the file, or the environment variable where `line` is 0."""

    origin: str
    line: int
    key: str
    text: str

    def __str__(self) -> str:
        place = f"{self.origin}:{self.line}" if self.line else self.origin
        return f"{place}: {self.key}: {self.text}" if self.key else f"{place}: {self.text}"


@dataclass(slots=True)
class Document:
    """One file, read. `data` holds what could be read in spite of mistakes, so that all are found."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    root: Node | None = None
    mistakes: list[Mistake] = field(default_factory=list)

    def line_of(self, path: Path) -> tuple[int, int]:
        """(line from 1, how many steps of `path` the file has): the line of the deepest key that is there."""
        node, line, depth = self.root, 1 if self.root is None else self.root.start_mark.line + 1, 0
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            node, line = found
            depth += 1
        return line, depth

    def ends_before_a_comment(self, path: Path) -> bool:
        """Whether the value at `path` stands without quotes, with a # behind it: perhaps it was to go on."""
        node = self.root
        for step in path:
            found = _child(node, step)
            if found is None:
                return False
            node = found[0]
        if not isinstance(node, ScalarNode) or node.style is not None or node.end_mark.buffer is None:
            return False
        return bool(re.match(r"[ \t]+#", node.end_mark.buffer[node.end_mark.pointer :]))


def _child(node: Node | None, step: str | int) -> tuple[Node, int] | None:
    if isinstance(node, MappingNode):
        for key, value in reversed(node.value):  # own keys stand behind merged ones and win
            if key.value == str(step):
                return value, key.start_mark.line + 1
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        item = node.value[step]
        return item, item.start_mark.line + 1
    return None


class _Loader(yaml.SafeLoader):
    """Without dates: `2026-01-01` stays text."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != _TAG + "timestamp"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(text: str, name: str) -> Document:
    """Parse `text`; `name` is what messages call it. Never raises: what is wrong stands in `mistakes`."""
    document = Document(name)
    if len(text) > MAX_CHARS:
        document.mistakes.append(Mistake(name, 1, "", "is larger than 512 KiB, expected a configuration"))
        return document
    try:
        _compose(text, document)
    except yaml.YAMLError as error:
        document.mistakes.append(_syntax(error, text, name))
    except RecursionError:
        document.mistakes.append(Mistake(name, 1, "", "is nested too deeply"))
    return document


def _compose(text: str, document: Document) -> None:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            document.mistakes.append(Mistake(document.name, 1, "", "is empty, expected at least version: 1"))
            return
        if not isinstance(root, MappingNode):
            document.mistakes.append(Mistake(document.name, 1, "", "expected keys, as in version: 1"))
            return
        if wrong := _unfolds_too_far(root):
            document.mistakes.append(Mistake(document.name, root.start_mark.line + 1, "", wrong))
            return
        _Form(document, loader).check(root, ())
        document.root = root
        document.data = loader.construct_document(root)
    finally:
        loader.dispose()


def _unfolds_too_far(root: Node) -> str | None:
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Node) -> int:
        if id(node) in open_nodes:
            raise ValueError
        if id(node) not in sizes:
            open_nodes.add(id(node))
            children = (
                [part for pair in node.value for part in pair]
                if isinstance(node, MappingNode)
                else node.value
                if isinstance(node, SequenceNode)
                else []
            )
            sizes[id(node)] = 1 + sum(map(size, children))
            open_nodes.discard(id(node))
        return sizes[id(node)]

    try:
        return "its aliases (*) unfold to too many values" if size(root) > _MAX_VALUES else None
    except ValueError:
        return "an alias (*) contains itself"


class _Form:
    """Walks the nodes, notes what no configuration may have, and mends it so that the rest can be checked."""

    def __init__(self, document: Document, loader: _Loader) -> None:
        self.document, self.loader = document, loader
        self.seen: set[int] = set()

    def note(self, node: Node, path: Path, text: str) -> None:
        self.document.mistakes.append(
            Mistake(self.document.name, node.start_mark.line + 1, dotted(path), text)
        )

    def check(self, node: Node, path: Path) -> None:
        if id(node) in self.seen:  # an alias: said where it is defined
            return
        self.seen.add(id(node))
        if isinstance(node, MappingNode):
            self.check_mapping(node, path)
        elif isinstance(node, SequenceNode):
            for index, item in enumerate(node.value):
                self.check(item, (*path, index))
        elif isinstance(node, ScalarNode):
            self.check_scalar(node, path)
        if not isinstance(node, ScalarNode) and node.tag not in (_TAG + "map", _TAG + "seq"):
            self.note(node, path, "has a tag (!), expected a plain list or mapping")
            node.tag = _TAG + ("map" if isinstance(node, MappingNode) else "seq")

    def check_scalar(self, node: ScalarNode, path: Path) -> None:
        self.check_characters(node, path)
        if ":" in node.value:  # YAML 1.1 reads 12:30 as 750
            node.tag = _TAG + "str"
        try:
            if node.tag in _SCALARS and node.tag != _TAG + "merge":
                self.loader.construct_object(node)
                return
        except ValueError:
            pass
        self.note(
            node, path, "can't be read, expected a plain value; put a text that begins with ! in quotes"
        )
        node.tag = _TAG + "str"

    def check_characters(self, node: ScalarNode, path: Path) -> None:
        r"""As JSON writes some characters, \ud83c\udfa5 is one, in two halves.

        A half alone is none, and could be written nowhere.
        """
        if all(not "\ud800" <= char <= "\udfff" for char in node.value):
            return
        node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if "\ufffd" in node.value:
            self.note(node, path, "holds half a character (\\ud800 to \\udfff), expected whole ones")

    def check_mapping(self, node: MappingNode, path: Path) -> None:
        lines: dict[str, int] = {}
        kept = []
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self.note(key, path, "a key is a list or mapping, expected a text")
                continue
            kept.append((key, value))
            self.check_key(key, path, lines)
            self.check(value, (*path, key.value))
        node.value = kept

    def check_key(self, key: ScalarNode, path: Path, lines: dict[str, int]) -> None:
        self.check_characters(key, path)
        here = (*path, key.value)
        if key.tag == _TAG + "merge":
            return
        if key.tag != _TAG + "str":
            self.note(key, here, "this key is not read as a text, put it in quotes")
            key.tag = _TAG + "str"
        if key.value in lines:
            self.note(key, here, f"stands twice, first on line {lines[key.value]}")
        lines.setdefault(key.value, key.start_mark.line + 1)


def _syntax(error: yaml.YAMLError, text: str, name: str) -> Mistake:
    if not isinstance(error, yaml.MarkedYAMLError):
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        return Mistake(name, line, "", "is not valid YAML: contains a character that YAML does not allow")
    begun, mark = error.context_mark, error.problem_mark or error.context_mark
    problem = error.problem or error.context or ""
    if begun is not None and any(part in problem for part in _KNOWN_LATE):
        mark = begun
    told = _plainly(problem, 0 if begun is None else begun.line + 1)
    return Mistake(name, 1 if mark is None else mark.line + 1, "", f"is not valid YAML: {told}")


# What PyYAML says → what that means. It quotes what it found, and that may be a password (`password: *me` is
# an alias): nothing of it is repeated.
_PLAINLY = {
    r"'\t'": "found a tab; indent with spaces, and put spaces after a colon",
    "alias": "found an undefined alias; put a text that begins with * in quotes",
    "cannot start any token": "a text that begins with @ % or ` belongs in quotes",
    "expected ',' or '}'": "a comma is missing, or the } for the { on line {begun}",
    "expected ',' or ']'": "a comma is missing, or the ] for the [ on line {begun}",
    "found unexpected": "the quotation mark has no second one",
    "another document": "a second document begins with this ---, expected one",
    "expected '<document start>'": "this belongs to no key; check what stands before it",
    "expected <block end>": "this belongs to no key; check its indentation, and quotes, commas and brackets",
    "expected the node content": "a text that begins with , ] or } belongs in quotes",
    "could not find expected ':'": "a colon is missing after this key",
    "mapping values": "a colon too many; a text with a colon and a space in it belongs in quotes",
    "sequence entries": "a list can't begin here; a text that begins with - belongs in quotes",
    "mapping keys": "a key can't begin here; a text that begins with ? belongs in quotes",
    "indentation indicator": "a text that begins with | or > belongs in quotes",
    "escape": "a text with a \\ in it belongs in single quotes",
    "second occurrence": "this & has stood before; a text that begins with & belongs in quotes",
    "tag handle": "a text that begins with ! belongs in quotes",
}
# Noticed where something else begins, or at the end of the file.
_KNOWN_LATE = ("found unexpected", "could not find expected ':'")


def _plainly(problem: str, begun: int) -> str:
    for part, told in _PLAINLY.items():
        if part in problem:
            return told.replace("{begun}", str(begun))
    return "can't be read from here on; check the quotes, commas and brackets"


def dotted(path: Path) -> str:
    """cameras.top.roi[2]"""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text
