"""/metrics says what prometheus_client would say, and no more series than were promised."""

import re

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from stream import metrics
from tests.bench.scrape import CAMERAS, line
from tests.webline import FakeLine, everything

MAX_SERIES = 5_000


def text_of(shown: FakeLine) -> str:
    return metrics.exposition(registry_of(shown)).decode()


def registry_of(shown: FakeLine) -> metrics.CollectorRegistry:
    return metrics.registry(shown.view(), lambda: metrics.PageStats(1, 2, 3, 4))


def without_the_process(text: str) -> list[str]:
    return [row for row in text.splitlines() if "process_" not in row]


def test_the_text_is_the_librarys_own() -> None:
    registry = registry_of(everything())
    ours, theirs = metrics.exposition(registry).decode(), generate_latest(registry).decode()
    assert without_the_process(ours) == without_the_process(theirs)
    assert len(ours.splitlines()) == len(theirs.splitlines())


def test_a_strange_group_name_can_not_break_the_text() -> None:
    shown, name = everything(), 'a"b\\c\nd'
    shown.stats.stream_lag[name] = 7  # type: ignore[index]
    families = {family.name: family for family in text_string_to_metric_families(text_of(shown))}
    groups = {sample.labels["group"] for sample in families["linewatch_stream_lag"].samples}
    assert name in groups


def test_groups_without_end_are_not_labels_without_end() -> None:
    shown = everything()
    shown.stats.stream_lag.update({f"group-{n}": n for n in range(1000)})  # type: ignore[attr-defined]
    rows = re.findall(r"^linewatch_stream_lag\{.*$", text_of(shown), re.MULTILINE)
    assert len(rows) < 30 and any('"group-999"' in row for row in rows)


def test_a_large_line_stays_within_the_promised_number_of_series() -> None:
    series = [row for row in text_of(line()).splitlines() if not row.startswith("#")]
    assert CAMERAS == 64 and len(series) <= MAX_SERIES
