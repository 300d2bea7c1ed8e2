"""`signals: {sample: {above_calls_per_s: N}}`: of many calls those of fewer conversations count."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import LEARN, ROUTED, Provider, endpoint, serving

from router.config.entries import AppEntry
from router.dispatch.rate_shares import FEW, LEAST_SHARE, MAX_APPS, WINDOW_S, RateShare, RateShares
from router.dispatch.sampling import is_within
from telemetry.store import Address

SECRET = b"s" * 32
RATE = 50.0
CONVERSATIONS = [number.to_bytes(8, "little") for number in range(400)]


def played(
    share: RateShare, calls_per_s: float, seconds: float, *, from_s: float
) -> Iterator[tuple[bytes, float, bool]]:
    """Yield calls of all conversations in turn: whose, under which share, whether it is read."""
    for n in range(int(calls_per_s * seconds)):
        now_s, whose = from_s + n / calls_per_s, CONVERSATIONS[n % len(CONVERSATIONS)]
        now = share.at(RATE, now_s)
        is_read = is_within(now, whose, SECRET)
        if is_read:
            share.count(RATE, now_s)
        yield whose, now, is_read


@pytest.mark.parametrize("calls_per_s", [1, 25, 49])
def test_below_the_rate_all_is_read(calls_per_s: float) -> None:
    assert all(is_read for *_, is_read in played(RateShare(0.0), calls_per_s, 120, from_s=0.0))


@pytest.mark.parametrize("calls_per_s", [120, 300, 1000])
def test_above_it_no_more_is_read_than_the_rate_and_not_much_less(calls_per_s: float) -> None:
    share = RateShare(0.0)
    list(played(share, calls_per_s, 100, from_s=0.0))  # until it has settled

    n = sum(is_read for *_, is_read in played(share, calls_per_s, 100, from_s=100.0))

    assert FEW * RATE * 0.8 <= n / 100 <= RATE


def test_between_two_steps_a_conversation_is_in_or_out_and_the_steps_are_few() -> None:
    share = RateShare(0.0)
    found: dict[tuple[float, bytes], set[bool]] = {}
    steps: list[float] = []
    for whose, now, is_read in played(share, 300, 300, from_s=0.0):
        found.setdefault((now, whose), set()).add(is_read)
        if not steps or steps[-1] != now:
            steps.append(now)

    assert all(len(each) == 1 for each in found.values())
    assert steps == [1.0, 0.5, 0.25, 0.125]


def test_it_is_all_of_them_again_once_calls_are_few() -> None:
    share = RateShare(0.0)
    list(played(share, 1000, 60, from_s=0.0))
    assert share.share < 0.1

    assert share.at(RATE, 60 + 20 * WINDOW_S) == 1.0  # nothing came meanwhile

    list(played(share, 1000, 60, from_s=400.0))
    list(played(share, 5, 8 * WINDOW_S, from_s=460.0))
    assert share.share == 1.0


def test_a_higher_rate_reads_more() -> None:
    share = RateShare(0.0)
    list(played(share, 1000, 60, from_s=0.0))

    before = share.share
    share.at(RATE * 100, 60 + WINDOW_S)

    assert share.share > before


def test_the_share_never_becomes_none() -> None:
    share = RateShare(0.0)
    for n in range(200_000):
        share.count(0.001, n / 1e6)

    assert share.share == LEAST_SHARE > 0


def test_apps_have_shares_of_their_own_and_are_bounded() -> None:
    shares = RateShares()
    one, other = shares.of(1, 0.0), shares.of(2, 0.0)
    one.share = 0.5

    assert (shares.of(1, 9.0), other.share) == (one, 1.0)
    for app in range(MAX_APPS + 1):
        shares.of(app, 0.0)
    assert len(shares._by_app) <= MAX_APPS


def test_a_rate_is_written_in_the_place_of_a_share() -> None:
    signals: Any = AppEntry.model_validate(
        {"signals": {"sample": {"above_calls_per_s": 50}}}
    ).signals

    assert signals.sample.above_calls_per_s == 50.0


@pytest.mark.parametrize(
    "said", [{}, {"above_calls_per_s": 0}, {"above_calls_per_s": True}, {"above": 5}, True]
)
def test_what_is_no_rate_is_refused(said: Any) -> None:
    with pytest.raises(ValueError, match="sample"):
        AppEntry.model_validate({"signals": {"sample": said}})


@pytest.mark.usefixtures("store")
def test_calls_above_the_rate_are_counted_as_left_out(
    provider: Provider, tmp_path: Path, address: Address
) -> None:
    signals = {"sample": {"above_calls_per_s": 1.0}}  # ten in a window
    value = {
        "endpoints": [endpoint(provider, "a")],
        "strategies": LEARN,
        "apps": {"default": {**ROUTED["default"], "signals": signals}},
    }
    with serving(value, tmp_path, address, observing=True) as sidecar:
        observer = sidecar.app.observer
        assert observer is not None
        for n in range(80):
            headers = {"x-router-session-id": f"s{n}"}
            assert sidecar.chat(text=str(n), headers=headers).status_code == 200
        n_told, n_left_out = observer.n_told, observer.n_sampled_out

    assert n_told + n_left_out == 80
    assert 11 <= n_told < 60
