"""Progress, report and lateness of a bridge; its numbers in the metrics."""

import json
from pathlib import Path

import pytest

from config.load import parse
from config.settings import Settings
from stream.bridges.progress import Progress
from stream.bridges.report import Report, verdict_late_s
from stream.delivery import Delivery
from stream.drafts import Part
from stream.events import Event
from stream.metrics import PageStats, exposition, registry
from stream.web.view import Histogram, LineStats
from tests.brokers import DRAFTS
from tests.webline import FakeLine


def event(seq: int, event_id: str | None = None, camera: str = "top") -> Event:
    fact = DRAFTS.fact("camera", "flicker", camera).model_copy(update={"seq": seq})
    return fact if event_id is None else fact.model_copy(update={"id": event_id})


def test_what_was_passed_on_is_old_also_after_a_restart(tmp_path: Path) -> None:
    first, second = event(1), event(2)
    progress = Progress(tmp_path / "p.json")
    progress.passed(second)
    progress.save()
    again = Progress(tmp_path / "p.json")
    assert again.is_old(first) and again.is_old(second)
    assert not again.is_old(event(3)) and not again.is_old(event(1, camera="side"))


def test_a_clock_set_back_and_an_outbox_that_was_deleted_make_no_event_old(tmp_path: Path) -> None:
    early, late = event(1).id, event(1).id
    assert early < late
    progress = Progress(tmp_path / "p.json")
    progress.passed(event(100, late))
    assert not progress.is_old(event(101, early)), "the clock was set back"
    assert not progress.is_old(event(1)), "the outbox was deleted"


def test_progress_that_can_not_be_read_is_none_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Progress(tmp_path / "p.json")
    assert not caplog.messages
    for text in ("{", "[]", '{"top": 3}', '{"top": ["x", "y"]}'):
        (tmp_path / "p.json").write_text(text)
        assert not Progress(tmp_path / "p.json").is_old(event(1))
    assert len(caplog.messages) == 4 and all("may be passed on twice" in m for m in caplog.messages)


def test_a_disk_that_refuses_progress_is_said_once_a_minute_and_when_it_is_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It was said each second, for as long as a disk was full."""
    caplog.set_level("INFO")
    progress = Progress(tmp_path / "away" / "p.json")
    progress.passed(event(1))
    for second in range(70):
        progress.save_or_say(1000.0 + second)
    assert len(caplog.messages) == 2
    assert "p.json can't be written: No such file or directory; what" in caplog.messages[0]
    (tmp_path / "away").mkdir()
    for second in range(70, 80):
        progress.save_or_say(1000.0 + second)
    assert len(caplog.messages) == 3 and caplog.messages[-1].endswith("p.json is written again")
    assert Progress(tmp_path / "away" / "p.json").is_old(event(1, "0"))


def test_a_verdict_is_late_by_the_time_of_its_trigger() -> None:
    verdict = DRAFTS.verdict("top", Part("p"), "ng", None, None, detail={"trigger": "10000-3"})
    assert verdict_late_s(verdict, 10.9, 1000) == 0
    assert abs(verdict_late_s(verdict, 11.5, 1000) - 0.5) < 1e-9
    assert verdict_late_s(event(1), 1e9, 1000) == 0
    nonsense = verdict.model_copy(update={"detail": {"trigger": "9" * 5000}})
    assert verdict_late_s(nonsense, 1e9, 1000) == 0


def test_a_report_comes_back_as_it_was_and_nonsense_is_none() -> None:
    report = Report(delivered=3, late=1, trouble="away")
    report.took(0.003)
    assert Report.parse(report.json_text()) == report
    whole = json.loads(report.json_text())
    wrong = ({"to_output": [1]}, {"late": "x"}, {"new": 1}, {"late": 10**400}, {"to_output_s": 10**400})
    for broken in ("", "[]", "{}x", "[" * 100_000, *(json.dumps(whole | part) for part in wrong)):
        assert Report.parse(broken) is None


class Reports:
    """A broker with what bridges told."""

    def __init__(self, told: dict[str, str]) -> None:
        self._told, self._asked = told, list[str]()

    def pipeline(self, transaction: bool) -> "Reports":
        return Reports(self._told)

    async def __aenter__(self) -> "Reports":
        return self

    async def __aexit__(self, *args: object) -> None: ...

    def get(self, key: str) -> None:
        self._asked.append(key)

    async def execute(self) -> list[str | None]:
        return [self._told.get(key) for key in self._asked]


async def test_a_bridge_that_the_config_file_names_no_more_is_told_of_as_long_as_it_runs(
    tmp_path: Path,
) -> None:
    """`linewatch_bridge_up` stayed 0, and the alert on, until the line was started again."""
    hook = "{type: webhook, url: 'http://10.0.0.5/hook', secret: 'of-the-hook-0123456789'}"

    def file(bridges: str) -> Settings:
        return parse(f"version: 1\nbridges: {{{bridges}}}\n", name="x", folder=tmp_path, env={})

    before = file(f"mes: {hook}, plc: {hook}")
    delivery = Delivery(before, lambda: None, lambda group: None)
    told = {delivery.keys.bridge_report("mes"): Report().json_text()}

    async def named() -> dict[str, bool]:
        await delivery._read_reports(Reports(told))  # type: ignore[arg-type]
        return {name: report is not None for name, report in delivery.bridges.items()}

    assert await named() == {"mes": True, "plc": False}
    delivery.changed(file(""))
    assert await named() == {"mes": True}
    told.clear()
    assert await named() == {}
    delivery.changed(before)
    assert await named() == {"mes": False, "plc": False}
    await delivery.stop(0.0)


def test_the_metrics_tell_each_bridge() -> None:
    line = FakeLine.of("top")
    line.stats = LineStats(
        bridge_up={"mes": 1.0, "plc": 0.0},
        bridge_pending={"mes": 4},
        bridge_events={("mes", "late"): 2},
        capture_to_bridge_seconds={"mes": Histogram((0.1,), (3, 1), 0.5)},
    )
    text = exposition(registry(line.view(), lambda: PageStats(0, 0, 0, 0))).decode()
    for line in (
        'linewatch_bridge_up{bridge="plc"} 0.0',
        'linewatch_bridge_pending{bridge="mes"} 4.0',
        'linewatch_bridge_events_total{bridge="mes",result="late"} 2.0',
        'linewatch_capture_to_bridge_seconds_bucket{bridge="mes",le="0.1"} 3.0',
    ):
        assert line in text
