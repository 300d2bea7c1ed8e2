"""Who sleeps until something comes hears it, and ends at once when it is to end."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from conftest import free_port

from telemetry import keys
from telemetry.store import Address, connect
from telemetry.wakeup import Wakeup
from workers.folding.learner import Learner
from workers.folding.roster import Roster


@pytest.mark.usefixtures("store")
def test_news_between_two_waits_ends_the_next_one(address: Address) -> None:
    wakeup, stop = Wakeup(connect(address, timeout_s=0.5)), threading.Event()
    client = connect(address)
    wakeup.wait(stop, at_least_s=0.0, at_most_s=0.2)  # from here on it is subscribed

    client.publish(keys.CHANGED, "")
    began = time.monotonic()
    assert wakeup.wait(stop, at_least_s=0.01, at_most_s=30.0)
    assert time.monotonic() - began < 10
    assert not wakeup.wait(stop, at_least_s=0.0, at_most_s=0.05)  # it was heard once
    wakeup.close()


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("after_s", [0.0, 0.05])
def test_a_wait_ends_when_its_loop_is_to_end(address: Address, after_s: float) -> None:
    wakeup, stop = Wakeup(connect(address, timeout_s=0.5)), threading.Event()
    wakeup.wait(stop, at_least_s=0.0, at_most_s=0.1)
    heard: list[bool] = []
    waiting = threading.Thread(
        target=lambda: heard.append(wakeup.wait(stop, at_least_s=0.0, at_most_s=30.0))
    )
    waiting.start()
    time.sleep(after_s)

    stop.set()
    wakeup.rouse()
    waiting.join(10)
    assert heard == [False]


def test_a_worker_whose_store_is_away_ends_without_waiting_for_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[Roster] = []
    monkeypatch.setattr(Roster, "leave", left.append)
    learner = Learner(Address(f"redis://127.0.0.1:{free_port()}"), 2, tmp_path / "journal")
    running = threading.Thread(target=learner.run)
    running.start()
    time.sleep(0.3)

    learner.stop.set()
    running.join(5)
    assert not running.is_alive()
    assert not left
