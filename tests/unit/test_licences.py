"""The table of licences is true: whatever comes along is in it, under the licence that it states itself."""

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib.metadata import distribution, metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TABLE = Path(__file__).parents[2] / "deploy" / "licences.md"
ALLOWED = {
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "LicenseRef-NVIDIA",
    "MIT",
    "MIT-0",
    "MIT-CMU",
    "MPL-2.0",
    "PSF-2.0",
    "Zlib",
}
# Beside ours only where somebody asks for it.
ONLY_AS_EXTRA = {"LGPL-3.0-or-later"}
EXTRAS = frozenset({"mqtt", "modbus", "opcua"})


def rows() -> dict[str, tuple[str, str]]:
    """Package (or a pattern of packages) → its licence and when it comes along."""
    cells = re.findall(r"^\| (\S+) \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", TABLE.read_text(), re.MULTILINE)
    return {name: (licence, when) for name, licence, when in cells if name != "package"}


def come_along(
    name: str = "linewatch", extras: frozenset[str] = frozenset(), seen: set[str] | None = None
) -> Iterator[str]:
    """Everything that an installation brings on this machine, without extras of ours if none is named."""
    seen = set() if seen is None else seen
    for text in distribution(name).requires or ():
        needed = Requirement(text)
        found = canonicalize_name(needed.name)
        if found in seen or not _applies(needed, extras):
            continue
        seen.add(found)
        yield found
        yield from come_along(found, frozenset(needed.extras), seen)


def _applies(needed: Requirement, extras: frozenset[str]) -> bool:
    return needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras | {""})


def row_of(name: str) -> tuple[str, str] | None:
    return next((row for pattern, row in rows().items() if fnmatch(name, pattern)), None)


def test_every_package_that_comes_along_is_in_the_table() -> None:
    assert [name for name in come_along(extras=EXTRAS) if row_of(name) is None] == []


def test_the_table_says_what_comes_along_always() -> None:
    always = {name for name, (_, when) in rows().items() if when == "always"}
    assert always == set(come_along()) - {"async-timeout"}


def test_a_package_that_states_its_licence_states_that_one() -> None:
    stated = {name: metadata(name).get("License-Expression") for name in come_along(extras=EXTRAS)}
    assert {n: (s, row_of(n)) for n, s in stated.items() if s and (row_of(n) or ("",))[0] != s} == {}


def test_every_licence_goes_together_with_ours() -> None:
    for name, (licence, when) in rows().items():
        allowed = ALLOWED | ONLY_AS_EXTRA if when.startswith("extra") else ALLOWED
        for term in licence.split(" AND "):
            assert set(term.split(" OR ")) & allowed, name
