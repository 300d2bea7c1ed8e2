"""A loop rests by what its rounds cost, and never longer than is fresh."""

from __future__ import annotations

import threading
import time

import pytest

from telemetry.metrics import Exposition, Metrics
from telemetry.pacer import (
    BUSIEST,
    BUSY,
    BUSY_EVENTS_PER_S,
    SHARE,
    Bell,
    Pacer,
    cpu_seconds_by_loop,
)

MOST_S = 0.1


class Machine:
    """A clock, and a thread's CPU time, that move only when told."""

    def __init__(self) -> None:
        self.now = self.cpu = 0.0
        self.pacer = Pacer(MOST_S, clock=lambda: self.now, cpu=lambda: self.cpu)

    def round(self, cost_s: float, n_events: int = 1, *, is_full: bool = False) -> float:
        self.pacer.begin()
        self.cpu += cost_s
        self.now += cost_s
        return self.pacer.rest_s(n_events, is_full=is_full)

    def run(self, cost_s: float, *, events_per_s: float, rounds: int = 200) -> tuple[float, float]:
        """Return the last rest, and the share of a core that all rounds took."""
        began, used, rest_s = self.now, self.cpu, 0.0
        for _ in range(rounds):
            n_events = max(round(events_per_s * (rest_s + cost_s)), 1)
            rest_s = self.round(cost_s, n_events)
            self.now += rest_s
        return rest_s, (self.cpu - used) / (self.now - began)


@pytest.mark.parametrize("cost_s", [0.0001, 0.0005, 0.0019])
def test_the_fixed_cost_of_rounds_stays_within_its_share_of_a_core(cost_s: float) -> None:
    rest_s, share = Machine().run(cost_s, events_per_s=10)

    assert rest_s == pytest.approx(cost_s / SHARE, rel=0.01)
    assert share == pytest.approx(SHARE, rel=0.1)


def test_no_rest_is_longer_than_freshness_allows() -> None:
    assert Machine().run(0.05, events_per_s=10)[0] == MOST_S
    found = [
        Machine().run(0.05, events_per_s=n * BUSY_EVENTS_PER_S)[0] for n in (2, 5, BUSIEST, 99)
    ]

    assert found == sorted(found, reverse=True)
    assert found[0] > MOST_S / 1.5
    assert found[2:] == pytest.approx([MOST_S / BUSY] * 2, rel=0.05)


def test_a_full_round_is_followed_by_the_next_at_once() -> None:
    machine = Machine()

    assert machine.round(0.01, 4096, is_full=True) == 0.0
    assert machine.round(0.01, 4096) > 0.0


def test_work_that_came_is_not_taken_for_fixed_cost() -> None:
    """One round in ten has a hundred times the work: the rests stay those of the other nine."""
    machine = Machine()
    for n in range(300):
        rest_s = machine.round(0.05 if n % 10 == 0 else 0.0005, 100 if n % 10 == 0 else 1)
        machine.now += rest_s

    assert machine.round(0.0005) < 3 * 0.0005 / SHARE


def test_a_machine_that_became_slower_is_noticed_within_some_hundred_rounds() -> None:
    machine = Machine()
    machine.run(0.0005, events_per_s=10)

    assert machine.run(0.001, events_per_s=10, rounds=300)[0] == pytest.approx(0.05, rel=0.05)


def test_a_bell_wakes_who_sleeps_and_is_not_lost_on_who_is_about_to() -> None:
    bell = Bell()
    threading.Timer(0.05, bell.ring).start()
    began = time.monotonic()

    assert bell.wait(5)
    assert time.monotonic() - began < 2
    bell.reset()
    bell.ring()
    bell.ring()
    assert bell.wait(0)
    bell.reset()
    assert not bell.wait(0)


def test_what_each_loop_took_is_counted_under_its_threads_name() -> None:
    done, go_on = threading.Event(), threading.Event()

    def work() -> None:
        while time.thread_time() < 0.1:
            pass
        done.set()
        go_on.wait(10)

    threads = [threading.Thread(target=work, name=name) for name in ("busy", "pool_0", "pool_1")]
    for thread in threads:
        thread.start()
        assert done.wait(30)
        done.clear()
    found = cpu_seconds_by_loop()
    text = Exposition(Metrics(), dict).text().decode()
    go_on.set()
    for thread in threads:
        thread.join()

    assert 0.09 < found["busy"] < 0.15
    assert 0.18 < found["pool"] < 0.3
    assert 'router_loop_cpu_seconds_total{loop="busy"} 0.1' in text
    assert "busy" not in cpu_seconds_by_loop()
