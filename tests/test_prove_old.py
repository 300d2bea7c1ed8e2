"""The proof of old feedback proves something: its referees agree with the parts, and see faults."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakeredis
import numpy as np
import pytest

from bandit.decay import windows_and_weights
from bandit.families import HALF_LIFE_MS, Family
from scripts.proofs import old_verdict
from scripts.proofs.old_verdict import OldVerdict, expected_sums, judge_old, weight
from scripts.proofs.old_words import OldWord, Way, first_words, holding, late_words, rewards
from scripts.proofs.old_world import N_SHARDS, OldMonth, live_through, make_month
from telemetry import keys
from telemetry.events import FeedbackKind
from workers.archive.archive import Archive
from workers.archive.audit import audit_state

ROOT = Path(__file__).parent.parent
NOW_MS = 1_900_000_000_000


def word(number: int, kind: FeedbackKind, parts: int | None, *, revision: int = 0) -> OldWord:
    event = bytes([revision, number]) + bytes(14)
    return OldWord(event, kind, parts, revision, Way.ID, (number,), NOW_MS)


def month(n: int = 400) -> OldMonth:
    return make_month(n, np.random.default_rng(0), now_ms=NOW_MS)


def test_the_weight_that_is_worked_out_is_the_one_that_is_folded_with() -> None:
    times = NOW_MS + np.arange(0, 230 * 86_400_000, 7_777_777, dtype=np.int64)

    _, folded = windows_and_weights(times, HALF_LIFE_MS[Family.QUALITY])

    assert [weight(at_ms) for at_ms in times.tolist()] == folded.tolist()


def test_what_holds_is_the_highest_revision_of_each_kind_and_the_strongest_kind_counts() -> None:
    judged = [word(1, FeedbackKind.JUDGE, 10), word(1, FeedbackKind.JUDGE, 20, revision=1)]
    human = word(1, FeedbackKind.HUMAN, 30)
    test = word(1, FeedbackKind.TEST, 40)
    taken_back = word(1, FeedbackKind.TEST, None, revision=2)

    assert rewards(holding(judged)) == {1: 20}
    assert rewards(holding([human, *reversed(judged)])) == {1: 30}
    assert rewards(holding([taken_back, test, human])) == {1: 30}
    assert rewards(holding([taken_back, test])) == {}


def test_all_three_ways_and_all_that_may_follow_are_among_the_late_words() -> None:
    made = month(4000)
    late = late_words(made, 1000, np.random.default_rng(1), received_ms=[NOW_MS] * 1000)

    assert {one.way for one in late} == set(Way)
    assert {len(one.meant) for one in late} == {1, 3}
    told_twice = len(late) - len(set(late))
    assert 60 < told_twice < 140
    assert 60 < sum(one.revision == 2 for one in late) < 140
    assert 25 < sum(one.parts is None for one in late) < 75
    ages_days = {(NOW_MS - made.decisions[n].at_ms) / 86_400_000 for w in late for n in w.meant}
    assert 2 < min(ages_days) < 3 < 28 < max(ages_days) < 29


@pytest.fixture(scope="module")
def lived(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Archive, OldMonth, list[OldWord]]]:
    """A month that was folded and archived, and what was said in it; a verdict changes neither."""
    client: Any = fakeredis.FakeRedis(server=fakeredis.FakeServer(server_type="valkey"))
    now_ms = int(client.time()[0]) * 1000
    rng = np.random.default_rng(0)
    made = make_month(400, rng, now_ms=now_ms)
    words = first_words(made, rng)
    archive = Archive(client, tmp_path_factory.mktemp("lived") / "archive", N_SHARDS)
    live_through(archive, made, words, now_ms=now_ms, period_ms=3 * 86_400_000)
    yield archive, made, words
    client.close()


def test_a_month_is_what_both_referees_and_the_audit_say(
    lived: tuple[Archive, OldMonth, list[OldWord]],
) -> None:
    archive, made, words = lived

    verdict = judge_old(archive, made, holding(words))

    assert verdict == OldVerdict(rows=verdict.rows)
    assert verdict.rows > 300
    assert audit_state(archive).equal
    assert not any(archive.client.hlen(keys.cold(shard)) for shard in range(N_SHARDS))


def test_one_label_too_few_too_many_or_of_another_value_is_seen(
    lived: tuple[Archive, OldMonth, list[OldWord]],
) -> None:
    archive, made, words = lived
    free = next(n for n in range(400) if n not in holding(words))
    more = replace(words[0], meant=(free,))
    other = replace(words[0], parts=(words[0].parts or 0) ^ 1)

    missing = judge_old(archive, made, holding([*words, more]))
    too_many = judge_old(archive, made, holding(words[1:]))
    changed = judge_old(archive, made, holding([other, *words[1:]]))

    assert (missing.lost, missing.doubled, missing.misweighted) == (1, 0, 0)
    assert (too_many.lost, too_many.doubled, too_many.misweighted) == (0, 1, 0)
    assert (changed.lost, changed.doubled, changed.misweighted) == (0, 0, 1)
    assert min(missing.wrong_rows, too_many.wrong_rows, changed.wrong_rows) > 0


def test_a_label_at_the_weight_of_another_time_is_seen(
    lived: tuple[Archive, OldMonth, list[OldWord]], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, made, words = lived
    monkeypatch.setattr(old_verdict, "weight", lambda at_ms: weight(at_ms + old_verdict.TICK_MS))

    verdict = judge_old(archive, made, holding(words))

    assert (verdict.lost, verdict.doubled, verdict.wrong_rows) == (0, 0, 0)
    assert verdict.misweighted == len(expected_sums(made, holding(words)))


SABOTAGES = {"forget": "doubled", "lose": "lost"}


@pytest.fixture(scope="module")
def proofs() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """A proof with each sabotage, at the same time: most of a proof is waiting."""
    command = [sys.executable, "-m", "scripts.proofs", "old", "--json", "--sabotage"]
    pipe = subprocess.PIPE
    found = {
        name: subprocess.Popen([*command, name], stdout=pipe, stderr=pipe, text=True, cwd=ROOT)
        for name in SABOTAGES
    }
    yield found
    for process in found.values():
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize(("sabotage", "figure"), SABOTAGES.items())
def test_the_proof_notices_what_is_forgotten_and_what_is_lost(
    proofs: dict[str, subprocess.Popen[str]], sabotage: str, figure: str
) -> None:
    out, err = proofs[sabotage].communicate(timeout=300)

    assert proofs[sabotage].returncode == 1, err
    figures = json.loads(out)
    assert figures[figure] > 0
    assert (figures["cold"], figures["held"], figures["dead_lettered"]) == (0, 0, 0)
    assert figures["audit_equal"] is (sabotage == "lose")
