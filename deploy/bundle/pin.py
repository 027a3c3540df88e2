"""Writes BUNDLE/requirements.txt (every wheel with its hash) and which Python the bundle is for."""

import hashlib
import sys
from pathlib import Path


def main(bundle: Path) -> None:
    lines = []
    for wheel in sorted((bundle / "wheels").glob("*.whl")):
        name, version, *_ = wheel.name.split("-")
        with wheel.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{name.replace('_', '-').lower()}=={version} --hash=sha256:{digest}\n")
    (bundle / "requirements.txt").write_text("".join(lines))
    (bundle / "python").write_text(f"{sys.version_info.major}.{sys.version_info.minor}\n")


main(Path(sys.argv[1]))
