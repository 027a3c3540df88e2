"""Prints what an earlier patch release of this Python needs and BUNDLE/wheels lacks, one requirement a line.

pip collects for exactly the Python that runs it; Debian's may be 3.11.2 where this one is 3.11.7, and some
packages need a helper only before 3.11.3.
"""

import sys
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

# What pip itself reads markers with; the packaging distribution need not be installed.
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name, parse_wheel_filename


def main(bundle: Path) -> None:
    wheels = sorted((bundle / "wheels").glob("*.whl"))
    here = {parse_wheel_filename(wheel.name)[0] for wheel in wheels}
    first = {"python_full_version": f"{sys.version_info.major}.{sys.version_info.minor}.0", "extra": ""}
    lacking = {
        f"{needed.name}{needed.specifier}"
        for wheel in wheels
        for needed in _needs(wheel)
        if needed.marker is not None
        and "python_full_version" in str(needed.marker)
        and needed.marker.evaluate(first)
        and canonicalize_name(needed.name) not in here
    }
    sys.stdout.write("".join(f"{requirement}\n" for requirement in sorted(lacking)))


def _needs(wheel: Path) -> Iterator[Requirement]:
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        (metadata,) = (n for n in names if n.count("/") == 1 and n.endswith(".dist-info/METADATA"))
        headers = HeaderParser().parsestr(opened.read(metadata).decode())
    return map(Requirement, headers.get_all("Requires-Dist", []))


main(Path(sys.argv[1]))
