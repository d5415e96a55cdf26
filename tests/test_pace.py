"""The clock of a run: how far it has come, what it keeps back for its end, and when something is due again."""

from __future__ import annotations

import pytest

from elman.config import TrainConfig
from elman.workflows import pace as pace_module
from elman.workflows.pace import Interval, Pace


@pytest.fixture
def clock(monkeypatch):
    """Set ``clock.now`` to say how late it is."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(pace_module.time, "perf_counter", lambda: Clock.now)
    return Clock


def of_minutes(minutes):
    return Pace.of(TrainConfig(minutes=minutes), steps_per_epoch=7, already=0.0, start=100.0)


def test_steps_and_epochs_count_steps(clock):
    assert Pace.of(TrainConfig(steps=40), 7, 0.0, 100.0).progress(10) == 0.25
    assert Pace.of(TrainConfig(epochs=2), 7, 0.0, 100.0).progress(7) == 0.5
    assert Pace.of(TrainConfig(epochs=2), 7, 0.0, 100.0).progress(99) == 1


def test_the_last_evaluation_and_saving_fit_into_the_time(clock):
    pace = of_minutes(1)
    clock.now = 100 + 55
    assert 55 / 60 < pace.progress(0) < 55 / 58
    pace.evaluation, pace.saving = 4.0, 1.0
    assert pace.progress(0) == 1
    clock.now = 100 + 60 - 4 - 2 - 3
    assert 0.98 < pace.progress(0) < 1  # of the reserve at most 3 s are a margin


def test_a_run_whose_time_is_over_has_spent_all_of_it(clock):
    pace = of_minutes(1)
    clock.now = 100 + 58
    assert pace.spent == 58
    pace.over = True
    assert pace.spent == 60
    clock.now = 100 + 61
    assert pace.spent == 61


def test_half_of_the_time_is_for_training_whatever_the_end_takes(clock):
    pace = of_minutes(1)
    pace.evaluation = 1000.0
    clock.now = 100 + 15
    assert pace.progress(0) == 0.5


def test_seconds_go_on_from_earlier_sessions(clock):
    pace = Pace.of(TrainConfig(minutes=1), 7, already=30.0, start=100.0)
    clock.now = 100 + 5
    assert pace.seconds == 35
    assert pace.progress(0) > 35 / 60


def test_something_is_due_ten_times_a_run_and_not_more_often_than_it_can_be_afforded(clock):
    pace = of_minutes(1)
    often, dear = Interval(None, pace, least=10), Interval(None, pace, least=10)
    done = {"often": [], "dear": []}
    for second in range(1, 60):
        clock.now = 100 + second
        if often.due(step=1):
            done["often"].append(second)
            often.done()
        if dear.due(step=1, cost=0.5):
            done["dear"].append(second)
            dear.done()
    assert done == {"often": [6, 12, 18, 24, 30, 36, 42, 48, 54], "dear": [15, 30, 45]}


def test_a_stated_interval_counts_steps_whatever_it_costs(clock):
    interval = Interval(5, of_minutes(1), least=10)
    assert [step for step in range(1, 21) if interval.due(step, cost=99)] == [5, 10, 15, 20]
    assert not any(Interval(0, of_minutes(1), least=10).due(step) for step in range(1, 21))
