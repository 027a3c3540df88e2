"""What the config file may say and this version does not do yet: said at start, never ignored in silence."""

from config.settings import Settings


def unbuilt(settings: Settings) -> list[str]:
    """One sentence for each such key that was set."""
    said = []
    if settings.pictures.max_age_days is not None:
        said.append("pictures.max_age_days: not built yet; good pictures are kept")
    return said
