"""Which picture files a model was made from."""

import hashlib
from pathlib import Path

from engine.artifact import Artifact


def good_of(model: Artifact) -> Path:
    """Where its good pictures lie in the folder that was trained on; test pictures may have come since."""
    data = Path(str(model.trained_on.get("folder", "")))
    inside = data / "train" / "good"
    try:
        return inside if inside.is_dir() else data
    except OSError:  # then none of the pictures can be read, and all are left out
        return data


def made_from(model: Artifact) -> set[str]:
    """`digest_of` all pictures that it learnt from, that were held out, or that it was calibrated on."""
    on = model.trained_on
    since = {digest for added in on.get("calibrated_on", ()) for digest in added["sha256"]}
    if "sha256" in on:
        return (since | set(on["sha256"])) - {""}
    # Older manifests name their pictures only: as far as these still lie where they lay.
    names = (*on.get("training", ()), *on.get("held_out", ()))
    return (since | {digest_of(good_of(model) / name) for name in names}) - {""}


def digest_of(path: Path) -> str:
    """SHA-256 of a file; "" for what can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
