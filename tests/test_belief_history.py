"""What was believed a while ago, how long sessions are, and odds by some labels alone."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bandit import cells
from bandit.dominance import p_better, p_better_on_labels
from bandit.families import HALF_LIFE_MS, N_COLUMNS, Family, Q
from bandit.steps import Step
from router.beliefs import history
from router.beliefs.beliefs import Beliefs, believe
from router.beliefs.episodes import UNKNOWN, SeenEpisodes, read_lengths
from router.beliefs.history import BeliefHistory, news_since
from router.config.compiled import Configuration, compile_text
from router.decision.shared_draws import DrawEnding, StoredDraw
from telemetry.digests import digest8

NOW_MS = 1_760_000_000_000
MINUTE, HOUR = 60_000, 3_600_000


def configured(*names: str, tasks: int = 0) -> Configuration:
    value = {
        "endpoints": [{"id": n, "model": n, "base_url": f"http://{n}.test/v1"} for n in names],
        "tasks": {f"t{i}": None for i in range(tasks)},
    }
    return compile_text(yaml.safe_dump(value), file="t")


OF = configured("a", "b")


def labels(name: str, n: int, good: int, at_ms: int, of: Configuration = OF) -> cells.Terms:
    columns = np.zeros((n, N_COLUMNS))
    columns[:, [Q.LABELS, Q.N]] = 1
    columns[:good, [Q.R, Q.R2]] = 1
    return cells.terms(
        Family.QUALITY,
        category=np.full(n, digest8("task", "general"), dtype=np.uint64),
        endpoint=np.full(n, of.catalog.by_id[name].digest, dtype=np.uint64),
        at_ms=np.full(n, at_ms),
        columns=columns,
    )


def believed(*terms: cells.Terms, at_ms: int = NOW_MS, of: Configuration = OF) -> Beliefs:
    return believe(of, cells.merge(list(terms)), version=1, now_ms=at_ms)


# -- odds ----------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 500), st.integers(0, 500), st.floats(0, 1), st.floats(0, 1)
)  # fmt: skip
def test_odds_by_labels_are_those_of_two_betas(n: int, m: int, share: float, other: float) -> None:
    ours = stats.beta(1 + n * share, 1 + n - n * share)
    theirs = stats.beta(1 + m * other, 1 + m - m * other)
    exact = theirs.cdf(ours.ppf((np.arange(20_000) + 0.5) / 20_000)).mean()

    found = p_better_on_labels(np.array([m, n]), np.array([m * other, n * share]), 0)

    assert found[0] == 0.5
    if exact < 0.8:
        assert found[1] < 0.9
    else:
        assert found[1] == pytest.approx(exact, abs=0.001)


def test_odds_without_labels_are_even_and_sums_beyond_them_are_refused() -> None:
    assert p_better_on_labels(np.zeros(3), np.zeros(3), 1) == pytest.approx([0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match="lies outside"):
        p_better_on_labels(np.array([3.0, 2.0]), np.array([3.5, 1.0]), 0)


def test_odds_of_a_bank_are_shares_of_its_rows() -> None:
    scores = np.array([[1, 2, 0], [1, 1, 3], [1, 2, 3], [1, 0, 3]], dtype=np.float32)

    assert p_better(scores, 0).tolist() == [0, 0.5, 0.75]


# -- snapshots -----------------------------------------------------------------------------------


def test_what_came_since_is_told_from_what_was_known_also_where_that_fades() -> None:
    old = labels("a", 1000, 700, NOW_MS), labels("b", 200, 100, NOW_MS)
    log = BeliefHistory()
    log.note(believed(*old), now_ms=NOW_MS)
    later_ms = NOW_MS + 24 * HOUR
    now = believed(*old, labels("b", 30, 6, later_ms), at_ms=later_ms)
    snapshot = log.first_since(now, NOW_MS - 1)
    assert snapshot is not None

    with pytest.raises(AttributeError):
        snapshot.at_ms = 0  # type: ignore[misc]
    news = news_since(snapshot, now, 0)

    faded = 2 ** -(24 * HOUR / HALF_LIFE_MS[Family.QUALITY])
    assert news.n == pytest.approx([0, 30], abs=0.03 * 30)  # weights go by ticks of 21 hours
    assert news.r == pytest.approx([0, 6], abs=0.03 * 6)
    assert faded < 0.96  # as they would be 40 fewer, and not 0
    assert news.quality[1] < 0


def test_what_the_first_snapshot_after_a_moment_knows_is_at_least_what_was_known_then() -> None:
    log, beliefs = BeliefHistory(), believed()
    for i in range(5):
        log.note(beliefs, now_ms=NOW_MS + i * MINUTE)

    times = [NOW_MS - HOUR, NOW_MS, NOW_MS + 1, NOW_MS + 4 * MINUTE, NOW_MS + 4 * MINUTE + 1]
    found = [log.first_since(beliefs, at_ms) for at_ms in times]

    at = [None if one is None else (one.at_ms - NOW_MS) // MINUTE for one in found]
    assert at == [0, 0, 1, 4, None]


def test_there_is_one_a_minute_then_one_each_half_hour_and_none_beyond_26_hours() -> None:
    log, beliefs = BeliefHistory(), believed()
    for i in range(40 * 60 * 2):
        log.note(beliefs, now_ms=NOW_MS + i * MINUTE // 2)
        assert len(log) <= history.MOST_SNAPSHOTS
    now_ms = NOW_MS + 40 * HOUR - MINUTE // 2
    ages = [now_ms - at_ms for at_ms in log._kept.at_ms]

    assert max(ages) == pytest.approx(26 * HOUR, abs=HOUR / 2)
    assert max(a - b for a, b in pairwise(ages)) <= HOUR / 2
    assert all(a - b == MINUTE for a, b in pairwise(a for a in ages if a < 15 * MINUTE))
    assert len(log) >= 60


@pytest.mark.parametrize(("n_tasks", "n_endpoints", "least"), [(99, 100, 60), (59, 400, 15)])
def test_however_many_categories_there_are_it_takes_eight_megabytes(
    n_tasks: int, n_endpoints: int, least: int
) -> None:
    of = configured(*(f"e{i}" for i in range(n_endpoints)), tasks=n_tasks)
    log, beliefs = BeliefHistory(), believed(of=of)
    for i in range(10 * 30):
        log.note(beliefs, now_ms=NOW_MS + i * 6 * MINUTE)
    for i in range(1, 16):
        log.note(beliefs, now_ms=NOW_MS + 30 * HOUR + i * MINUTE)

    assert log.n_bytes <= history.MAX_BYTES
    assert least <= len(log)
    oldest = log.first_since(beliefs, 0)
    assert oldest is not None
    assert oldest.at_ms <= NOW_MS + 30 * HOUR - 24 * HOUR
    assert oldest.n_bytes == 12 * (n_tasks + 1) * n_endpoints


def test_it_begins_anew_with_a_configuration_a_store_and_a_clock_that_was_set_back() -> None:
    log, one, two = BeliefHistory(), believed(), believed(of=configured("a", "b", "c"))
    log.note(one, now_ms=NOW_MS, store=b"s")
    log.note(one, now_ms=NOW_MS + MINUTE, store=b"s")
    assert len(log) == 2
    assert log.first_since(two, 0) is None
    log.note(one, now_ms=NOW_MS + 2 * MINUTE, store=b"t")
    assert len(log) == 1
    log.note(one, now_ms=NOW_MS, store=b"t")
    assert (len(log), log._kept.at_ms) == (1, (NOW_MS,))
    log.note(two, now_ms=NOW_MS + MINUTE, store=b"t")
    assert (len(log), log.first_since(one, 0)) == (1, None)


def test_damaged_cells_have_no_labels() -> None:
    good = believed(labels("a", 10, 5, NOW_MS))
    outlook = good.outlooks[0]
    damaged = replace(outlook.posterior, damaged=np.array([[True, False]]))
    log, bad = BeliefHistory(), replace(good, outlooks=(replace(outlook, posterior=damaged),))
    log.note(bad, now_ms=NOW_MS)
    snapshot = log.first_since(bad, 0)
    assert snapshot is not None

    assert not snapshot.n.any()
    assert not news_since(snapshot, bad, 0).n.any()


# -- how long sessions are -----------------------------------------------------------------------


def said(**apps: object) -> bytes:
    return json.dumps({"at_ms": 1, "since_ms": 0, "apps": apps}).encode()


def test_the_last_entry_at_or_below_counts() -> None:
    found = read_lengths(said(**{"00000000000000ff": {"remaining": [[1, 9], [4, 7.5], [8, 3]]}}))

    left = [found.remaining(255, n) for n in (0, 1, 3, 4, 7, 8, 1000)]
    assert left == [None, 9, 9, 7.5, 7.5, 3, 3]
    assert found.remaining(1, 4) is None


@pytest.mark.parametrize(
    "raw",
    [
        None, b"", b"{", b"[]", b"7", b'{"apps": 7}', b"\xff",
        said(nothex={"remaining": [[1, 2]]}),
        said(ff=None), said(ff={}), said(ff={"remaining": None}), said(ff={"remaining": [[1]]}),
        said(ff={"remaining": [["x", 2]]}), said(ff={"remaining": [[1, -2]]}),
        b'{"apps": {"ff": {"remaining": [[1, NaN]]}}}',
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_nothing(raw: bytes | None) -> None:
    assert read_lengths(raw).remaining(255, 1) is None


def test_it_is_read_once_until_it_changes() -> None:
    seen = SeenEpisodes()
    assert seen.lengths is UNKNOWN
    seen.take(said(ff={"remaining": [[1, 2]]}))
    before = seen.lengths
    seen.take(said(ff={"remaining": [[1, 2]]}))
    assert seen.lengths is before
    seen.take(None)
    assert seen.lengths.remaining(255, 1) is None


# -- a stored draw -------------------------------------------------------------------------------


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize("ending", list(DrawEnding))
def test_a_stored_draw_says_what_ended_the_one_before_in_as_many_bytes(
    step: Step, ending: DrawEnding
) -> None:
    draw = StoredDraw(2**64 - 1, 0.25, NOW_MS, 7, step, ending)
    before = StoredDraw(2**64 - 1, 0.25, NOW_MS, 7, step)

    assert len(draw.pack()) == 33
    assert StoredDraw.unpack(draw.pack()) == draw
    assert before.pack()[-1] == list(Step).index(step)  # as earlier versions stored it
    assert StoredDraw.unpack_conversation(draw.pack_conversation()) == before


@pytest.mark.parametrize("last", [len(Step), 0x0F, 0x30, 0xFF])
def test_a_draw_that_a_later_version_stored_is_not_read(last: int) -> None:
    raw = StoredDraw(1, 0.5, NOW_MS, 7, Step.STAY).pack()

    assert StoredDraw.unpack(raw[:-1] + bytes([last])) is None
