import os

from stream.condition import CameraState, Condition, Patience, State
from stream.health import Finding
from stream.outages import HealthChanges, Outage, OutagePolicy, Outages
from stream.sources.base import Ended, Refused, Stalled
from stream.thinning import Thinning


def condition(frozen_after_s: float | None = 5.0) -> Condition:
    made = Condition(Patience(10.0, frozen_after_s), now=0.0)
    made.attempt(steady=True)
    return made


def test_a_camera_connects_and_is_live_with_its_first_picture() -> None:
    camera = condition()
    assert camera.judge(0.0)[0] == "connecting"
    camera.connected("H.264")
    assert camera.judge(0.1) == ("connecting", "H.264")
    camera.picture(0.2, new=True)
    assert camera.judge(0.2) == ("live", "H.264")


def test_pictures_without_new_content_are_frozen() -> None:
    camera = condition()
    camera.picture(0.0, new=True)
    camera.picture(5.0, new=False)
    assert camera.judge(5.0)[0] == "frozen"
    for at in (5.1, 5.2, 5.3):
        camera.picture(at, new=True)
    assert camera.judge(5.3)[0] == "live"


def test_the_first_picture_after_an_outage_makes_a_camera_live() -> None:
    camera = condition()
    camera.picture(0.0, new=True)
    camera.failed(Ended("the camera closed the stream"))
    camera.attempt(steady=True)
    camera.picture(60.0, new=True)
    assert camera.judge(60.0)[0] == "live"


def test_a_single_new_picture_now_and_then_is_no_life() -> None:
    camera = condition()
    camera.picture(0.0, new=True)
    for n in range(51, 100):
        camera.picture(n / 10, new=n % 8 == 0)
        assert camera.judge(n / 10)[0] == "frozen"


def test_frozen_survives_a_reconnect_that_brings_the_same_picture() -> None:
    camera = condition()
    camera.picture(0.0, new=True)
    camera.failed(Ended("over"))
    camera.attempt(steady=True)
    camera.picture(6.0, new=False)
    assert camera.judge(6.0)[0] == "frozen"


def test_a_reason_can_be_written_down_whatever_bytes_a_file_s_name_has() -> None:
    camera = condition()
    camera.failed(Ended(os.fsdecode(b"Pr\xfcfung.png can't be read")))
    assert camera.judge(0.0) == ("connecting", "Pr?fung.png can't be read")
    camera.connected(None)  # type: ignore[arg-type]
    assert camera.judge(0.0)[1].startswith("None; before that: Pr?fung.png")


def test_the_check_for_frozen_can_be_switched_off() -> None:
    camera = condition(frozen_after_s=None)
    camera.picture(0.0, new=True)
    camera.picture(1000.0, new=False)
    assert camera.judge(1000.0)[0] == "live"


def test_a_camera_is_down_only_after_a_while_and_says_why() -> None:
    camera = condition()
    camera.picture(0.0, new=True)
    camera.failed(Stalled("no data in time"))
    assert camera.judge(9.9) == ("connecting", "no data in time")
    assert camera.judge(10.0) == ("down", "no data in time")


def test_a_camera_that_answers_again_says_so_and_what_was_before() -> None:
    camera = condition()
    camera.failed(Stalled("no data in time"))
    camera.attempt(steady=True)
    camera.connected("H.264")
    assert camera.judge(1.0) == ("connecting", "H.264; before that: no data in time")


def test_a_camera_that_never_answered_is_down_too() -> None:
    assert condition().judge(10.0) == ("down", "no picture within 10 s")


def test_pictures_that_are_left_out_say_that_a_camera_sends() -> None:
    camera = Condition(Patience(1.0, 1.0, interval_s=1.0), now=0.0)
    camera.attempt(steady=True)
    for n in range(100):
        if n % 20 == 0:
            camera.picture(n / 20, new=True)
        else:
            camera.left_out(n / 20)
        assert camera.judge(n / 20)[0] == "live"
    assert camera.judge(99 / 20 + 0.9)[0] == "live"
    assert camera.judge(99 / 20 + 1.0) == ("down", "no picture within 1 s")


def test_a_slow_camera_is_given_the_time_for_its_next_picture() -> None:
    camera = Condition(Patience(10.0, 10.0, interval_s=20.0), now=0.0)
    camera.attempt(steady=True)
    assert camera.judge(10.0)[0] == "down"  # one that never sent is no slow one
    for at in (11.0, 31.0, 55.0):
        camera.picture(at, new=True)
        assert camera.judge(at + 49.9)[0] == "live"
    assert camera.judge(105.0) == ("down", "no picture within 50 s")
    camera.failed(Stalled("no data in time"))
    assert camera.judge(66.0) == ("down", "no data in time")


def test_a_slow_camera_is_frozen_only_when_another_picture_must_have_been_seen() -> None:
    camera = Condition(Patience(200.0, 10.0, interval_s=20.0), now=0.0)
    camera.attempt(steady=True)
    camera.picture(0.0, new=True)
    camera.picture(40.0, new=False)
    assert camera.judge(49.9)[0] == "live"
    assert camera.judge(50.0)[0] == "frozen"


def test_refused_is_said_at_once_and_stays_until_a_picture_comes() -> None:
    camera = condition()
    camera.failed(Refused("wrong password"))
    assert camera.judge(0.0) == ("refused", "wrong password")
    camera.attempt(steady=True)
    assert camera.judge(60.0)[0] == "refused"
    camera.picture(61.0, new=True)
    assert camera.judge(61.0)[0] == "live"


def test_a_folder_that_was_refused_is_live_once_it_can_be_watched_though_no_picture_comes() -> None:
    camera = condition()
    camera.failed(Refused("drop: there is no such folder"))
    camera.attempt(steady=False)
    assert camera.judge(30.0)[0] == "refused"
    camera.connected("pictures from drop")
    assert camera.judge(31.0)[0] == "refused"  # it may say no at the next step
    assert camera.judge(32.0) == ("live", "pictures from drop")


def test_a_source_that_is_refused_again_at_once_was_never_live() -> None:
    camera = condition()
    for at in (0.0, 30.0):
        camera.attempt(steady=False)
        camera.connected("pictures from drop")
        camera.failed(Refused("drop: no right to read it"))
        assert camera.judge(at)[0] == "refused"
    camera.attempt(steady=False)
    camera.connected("pictures from drop")
    assert camera.judge(60.0)[0] == "refused"


def test_a_folder_without_new_pictures_is_live() -> None:
    camera = condition()
    camera.attempt(steady=False)
    camera.connected("pictures from drop")
    assert camera.judge(1000.0) == ("live", "pictures from drop")


def test_a_recording_that_is_over_is_down_for_good() -> None:
    camera = condition()
    camera.failed(Ended("the recording is over", final=True))
    camera.finished()
    assert camera.judge(0.0) == ("down", "the recording is over")


def told(states: list[tuple[float, State]], policy: OutagePolicy) -> list[Outage]:
    outages = Outages(policy)
    updates = (outages.update(CameraState("top", state, "why", 0.0), at) for at, state in states)
    return [update for update in updates if update]


def test_an_outage_is_told_once_and_its_end_once() -> None:
    states = [(0.0, "live"), (1.0, "down"), (2.5, "down"), (3.0, "down"), (9.0, "live"), (10.5, "live")]
    down, up = told(states, OutagePolicy(min_out_s=1.0, min_up_s=1.0))
    assert (down.kind, up.kind) == ("camera.down", "camera.up")
    assert up.lasted_s == 8.0


def test_a_short_outage_is_not_told() -> None:
    states = [
        (0.0, "live"),
        (1.0, "frozen"),
        (1.9, "live"),
        (5.0, "live"),
        (6.0, "connecting"),
        (20.0, "live"),
    ]
    assert told(states, OutagePolicy(min_out_s=1.0)) == []


def test_down_then_refused_is_one_outage() -> None:
    states = [(0.0, "down"), (2.0, "down"), (3.0, "refused"), (9.0, "refused")]
    assert [outage.kind for outage in told(states, OutagePolicy())] == ["camera.down"]


def test_a_flapping_camera_stays_down_until_it_settles() -> None:
    states: list[tuple[float, State]] = [(float(t), "down" if t % 10 < 5 else "live") for t in range(200)]
    states += [(200.0 + t, "live") for t in range(100)]
    outages = told(states, OutagePolicy(flaps=3, flap_window_s=600.0, settle_s=60.0))
    assert [outage.kind for outage in outages] == ["camera.down", "camera.up"] * 3
    assert [outage.flapping for outage in outages] == [False] * 4 + [True] * 2
    assert outages[-1].lasted_s > 200


def test_a_finding_is_told_when_it_begins_and_when_it_ends() -> None:
    changes, dark = HealthChanges("top", OutagePolicy()), Finding("dark", "the picture is dark")
    told = [changes.update(findings, now) for now, findings in enumerate([(), (dark,), (dark,), (), ()])]
    assert [[change.began for change in step] for step in told] == [[], [True], [], [False], []]
    assert told[3][0].lasted_s == 2.0


def test_a_finding_that_flaps_is_told_a_few_times_and_then_held() -> None:
    changes, dark = HealthChanges("top", OutagePolicy(flaps=2, settle_s=50.0)), Finding("dark", "dark")
    told = [change for now in range(100) for change in changes.update((dark,) * (now % 2), float(now))]
    told += [change for now in range(100, 200) for change in changes.update((), float(now))]
    assert [change.began for change in told] == [True, False, True, False]
    assert told[-1].count == 48


def test_thinning_keeps_the_rate_on_average_in_spite_of_jitter() -> None:
    thinning = Thinning(fps=10)
    jitter = (0.0, 0.015, -0.01, 0.005)
    times = [n / 25 + jitter[n % 4] for n in range(250)]
    assert 98 <= sum(thinning.due(at) for at in times) <= 102


def test_thinning_to_the_camera_s_own_rate_loses_nothing() -> None:
    thinning = Thinning(fps=10)
    assert all(thinning.due(n / 10 + (n % 2) * 0.02) for n in range(100))


def test_thinning_goes_on_after_the_clock_jumped_back() -> None:
    thinning = Thinning(fps=10)
    assert thinning.due(1000.0)
    assert thinning.due(0.0)


def test_no_rate_takes_every_picture() -> None:
    thinning = Thinning(None)
    assert all(thinning.due(0.0) and thinning.due_in_s(0.0) == 0.0 for _ in range(5))


def test_a_picture_that_can_wait_is_told_for_how_long() -> None:
    thinning = Thinning(fps=10)
    assert thinning.due_in_s(1000.0) == 0.0 and thinning.due(1000.0)
    for at in (1000.0, 1000.04):
        later = at + thinning.due_in_s(at)
        assert abs(later - 1000.05) < 1e-6
        assert not thinning.due(at)
    assert thinning.due(later + 1e-6)
    assert thinning.due_in_s(0.0) == thinning.due_in_s(2000.0) == 0.0, "the clock jumped, or there was a gap"


def test_outages_keep_what_was_told_when_they_are_retuned() -> None:
    outages = Outages(OutagePolicy(min_out_s=0.0, flaps=2, settle_s=60.0))
    assert outages.update(CameraState("top", "down", "gone", 0.0), 0.0) is not None
    outages.retune(OutagePolicy(min_up_s=0.0, flaps=50))
    told = outages.update(CameraState("top", "live", "", 0.0), 5.0)
    assert told is not None and (told.kind, told.lasted_s) == ("camera.up", 5.0)
