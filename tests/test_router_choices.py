"""What release keys stand at: reviews, restarts, removals, and two processes at once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bandit import cells
from bandit.cells import Terms
from bandit.draws import LEARNING, Law, Uniforms
from bandit.families import N_COLUMNS, B, Family, Q, U
from router.beliefs import choices, reviews
from router.beliefs.beliefs import Beliefs, believe
from router.beliefs.keeper import Keeper
from router.beliefs.kept import Kept, ReleaseNotice, ReviewKey
from router.beliefs.releases import Releases
from router.beliefs.review_keys import known_review_keys, seeds
from router.config.compiled import Configuration, compile_text
from router.config.entries import Fallback
from router.config.exclusions import Exclusion
from router.decision.planner import plan
from router.errors import ConfigError
from router.policy.constraints import Eligibility
from router.policy.route import Route
from telemetry import keys
from telemetry.digests import digest8
from telemetry.store import Address

NOW_MS = 1_800_000_000_000
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
WEEK_MS = 7 * DAY_MS


def configuration(names: str = "abc", **more: Any) -> Configuration:
    value: dict[str, Any] = {
        "store": {"shards": 2},
        "endpoints": [
            {"id": name, "model": name, "base_url": f"http://127.0.0.1:1/{name}"} for name in names
        ],
        "tasks": {"code": None, "chat": None},
        "apps": {"default": {"mode": "route", "strategy": "quality"}},
    }
    return compile_text(yaml.safe_dump({**value, **more}), file="test.yaml")


ABC = configuration()
SCOPE = ReviewKey("default", "quality", "", "a")


def rows(
    counts: Iterable[tuple[str, str, int, float]],
    of: Configuration = ABC,
    review_key: ReviewKey = SCOPE,
    *,
    labelled: bool = True,
    app: str | None = None,
) -> Terms:
    """Calls that are `(task, endpoint, n, mean reward)`; their decisions are of just now.

    Of an app that is named they teach whom its labels teach, else everybody.
    """
    parts = []
    release_keys = dict(zip(of.task_index, review_key.release_keys(of.task_index), strict=True))
    for task, name, n, mean in counts:
        quality, usage, books = (np.zeros((n, N_COLUMNS)) for _ in range(3))
        reward = (np.arange(n) < round(mean * n)).astype(float)
        quality[:, [Q.LABELS, Q.N]] = 1
        quality[:, Q.R] = quality[:, Q.R2] = reward
        usage[:, U.CALLS] = 1
        books[:, B.CALLS] = 1
        books[:, B.LABELLED] = labelled
        books[:, B.REWARD] = reward * labelled
        kinds = [(Family.USAGE, usage), (Family.BOOKS, books)]
        for family, columns in [*kinds, (Family.QUALITY, quality)] if labelled else kinds:
            category = of.apps[app].categories[task] if app else digest8("task", task)
            digest = release_keys[task] if family is Family.BOOKS else category
            parts.append(
                cells.terms(
                    family,
                    category=np.full(n, digest, dtype=np.uint64),
                    endpoint=np.full(n, of.catalog.by_id[name].digest, dtype=np.uint64),
                    at_ms=np.full(n, int(time.time() * 1000)),
                    columns=columns,
                )
            )
    return cells.merge(parts)


def beliefs(found: Terms, of: Configuration = ABC, kept: Kept | None = None) -> Beliefs:
    known = {kept.review_key: kept} if kept else {}
    review_keys = known_review_keys(of, known)
    return believe(of, found, version=1, review_keys=review_keys, kept=known)


def state(found: Terms, of: Configuration = ABC, kept: Kept | None = None) -> choices.Choices:
    return next(iter(beliefs(found, of, kept).choices.values()))


def review(found: Terms, kept: Kept | None, at_ms: int, of: Configuration = ABC):
    review_key = kept.review_key if kept else SCOPE
    return reviews.review(review_key, kept, beliefs(found, of).posterior, of, now_ms=at_ms)


BEGUN = Kept(SCOPE, 1, NOW_MS, {})
B_IS_BETTER = rows([("code", "a", 100, 0.5), ("code", "b", 100, 0.95)])


def law_of(found: choices.Choices, task: str, of: Configuration = ABC) -> Law:
    return found.laws[of.task_index[task]]


def note_of(found: choices.Choices, task: str, of: Configuration = ABC) -> str:
    return found.notes[of.task_index[task]]


# -- the law ------------------------------------------------------------------------------------


def test_without_labels_the_incumbent_keeps_everything() -> None:
    found = state(rows([("code", "a", 500, 0.5)], labelled=False))

    assert law_of(found, "code") == Law(0, 0, (), stay=1.0)
    assert note_of(found, "code") == choices.NO_SIGNAL


def test_with_labels_challengers_are_tried() -> None:
    found = state(rows([("code", "a", 100, 0.5)]))
    law = law_of(found, "code")

    assert (law.incumbent, law.current, law.floor) == (0, 0, 0.02)
    assert set(law.challengers or ()) == {1, 2}
    assert law.stay < 1
    assert note_of(found, "code") == ""


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"stakes": "high"}, "high stakes"),
        ({"explore": False}, "asked not to explore"),
        ({"data_class": "internal", "explore": False, "stakes": "high"}, "high stakes"),
    ],
)
def test_whose_calls_stay_with_the_choice_has_no_challengers_and_says_why(
    more: dict[str, Any], why: str
) -> None:
    of = configuration(apps={"default": {"mode": "route", **more}})
    found = state(rows([("code", "a", 100, 0.5)], of), of)

    assert law_of(found, "code", of) == Law(0, 0, (), stay=1.0)
    assert note_of(found, "code", of) == why
    shown = {row["task"]: row for row in choices.rows_of(found, of)}["code"]
    assert (shown["challengers"], shown["exploring"], shown["note"]) == ([], False, why)


@pytest.mark.parametrize("tasks", [("code", "chat"), ("chat", "code")])
def test_what_one_task_says_of_its_stakes_holds_for_none_of_the_others(
    tasks: tuple[str, str],
) -> None:
    said = {"code": {"stakes": "high"}, "chat": None}
    of = configuration(tasks={task: said[task] for task in tasks})
    found = state(rows([(task, "a", 100, 0.5) for task in tasks], of), of)

    assert law_of(found, "code", of) == Law(0, 0, (), stay=1.0)
    assert note_of(found, "code", of) == "high stakes"
    assert law_of(found, "chat", of).stay < 1
    assert law_of(found, "chat", of).challengers
    assert note_of(found, "chat", of) == ""


def test_under_an_order_high_stakes_say_what_was_not_checked_as_well() -> None:
    app = {"mode": "route", "strategy": "cheapest", "stakes": "high"}
    of = configuration(apps={"default": app})
    found = state(cells.merge([]), of)

    assert {note for note in found.notes} == {f"high stakes; {choices.UNCHECKED}"}
    assert all((law.stay, law.challengers) == (1.0, ()) for law in found.laws)


def test_what_is_certain_is_released_for_high_stakes_too() -> None:
    of = configuration(apps={"default": {"mode": "route", "stakes": "high"}})
    found = rows([("code", "a", 400, 0.5), ("code", "b", 400, 0.95)], of)

    _, released = review(found, BEGUN, NOW_MS + 1, of) or (None, [])

    assert [(r.before, r.after, r.reason) for r in released] == [("a", "b", "certain")]


@pytest.mark.parametrize("explore", [True, False])
def test_where_the_choice_may_not_serve_who_does_not_explore_goes_to_the_incumbent(
    explore: bool,
) -> None:
    found = beliefs(rows([("code", "a", 100, 0.5), ("code", "c", 100, 0.9)]))
    law = Law(incumbent=0, current=1, challengers=(2,), stay=0.4)
    endpoints = ABC.catalog.endpoints
    strategy = ABC.strategies["quality"]
    route = Route(strategy, law, endpoints[0], None, Fallback.ANY, True, False, endpoints)
    eligibility = Eligibility(np.array([True, False, True]), (None, Exclusion.CONTEXT, None))

    made = plan(
        route,
        eligibility,
        found,
        category=ABC.task_index["code"],
        numbers=Uniforms(0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
        explore=explore,
    )

    assert (made.shares().get("c", 0.0) > 0) is explore
    assert explore or made.shares() == {"a": 1.0}


def test_a_spent_allowance_stops_the_trials() -> None:
    found = state(rows([("code", "a", 100, 0.9), ("code", "b", 30, 0.5)]))

    assert found.room is not None
    assert found.room < 0
    assert law_of(found, "code").stay == 1.0
    assert note_of(found, "code") == choices.SPENT


def test_losses_in_one_task_are_paid_from_the_room_of_all() -> None:
    lost = [("chat", "b", 30, 0.1), ("chat", "a", 100, 0.9)]
    alone = state(rows([("code", "a", 100, 0.5)]))
    together = state(rows([("code", "a", 100, 0.5), *lost]))

    assert alone.room is not None
    assert together.room is not None
    assert together.room < alone.room
    assert law_of(together, "code").stay == 1.0


def test_a_doubtful_choice_yields_to_the_incumbent_once_the_allowance_is_spent() -> None:
    spent = rows([("code", "a", 100, 0.9), ("code", "b", 30, 0.5)])
    found = state(spent, kept=Kept(SCOPE, 3, NOW_MS, {"code": "b"}))

    assert law_of(found, "code") == Law(0, 0, (), stay=1.0)
    assert note_of(found, "code") == "allowance spent: the incumbent serves"
    (row,) = [row for row in choices.rows_of(found, ABC) if row["task"] == "code"]
    assert (row["current"], row["calls"], row["explored_calls"]) == ("b", 130, 30)
    assert row["room"] < 0


def test_the_task_that_promises_less_waits() -> None:
    found = state(rows([("code", "a", 1000, 0.5), ("chat", "a", 30, 0.5)]))

    assert law_of(found, "code").stay < 1
    assert note_of(found, "chat") == choices.ELSEWHERE


def test_processes_that_know_the_same_agree() -> None:
    found = rows([("code", "a", 100, 0.5)])

    assert state(found).laws == state(found).laws
    assert SCOPE.digest == ReviewKey("default", "quality", "", "a").digest


def test_guarded_routes_and_learning_mode_keep_banks_apart() -> None:
    found = beliefs(rows([("code", "a", 100, 0.5)]))
    everybody, objective = np.ones(3, dtype=bool), ABC.strategies["quality"].objective
    guarded = found.table(0, objective, Law(0, 0, (1,), stay=0.4), everybody)
    learning = found.table(0, objective, LEARNING, everybody)

    assert guarded.bank.sharpness == 1.0
    assert learning.bank.sharpness is None


# -- reviews ------------------------------------------------------------------------------------


def test_a_review_key_begins_at_its_incumbent_and_waits_a_week() -> None:
    begun, released = review(B_IS_BETTER, None, NOW_MS) or (None, None)

    assert begun == BEGUN
    assert released == []
    assert review(B_IS_BETTER, begun, NOW_MS + WEEK_MS - 1) is None


def test_a_review_releases_who_is_better() -> None:
    after, released = review(B_IS_BETTER, BEGUN, NOW_MS + WEEK_MS) or (BEGUN, [])

    everywhere = {"code": "b", "chat": "b", "general": "b"}  # labels enough over all tasks
    assert after == Kept(SCOPE, 2, NOW_MS + WEEK_MS, everywhere)
    assert [(r.before, r.after, r.reason) for r in released] == [("a", "b", "better")] * 3
    assert all((r.p_better or 0) >= 0.9 for r in released)
    assert all((r.gain or 0) > 0.2 for r in released)
    law = law_of(state(B_IS_BETTER, kept=after), "code")
    assert law.current == 1
    assert law.stay >= 0.97


def test_a_review_without_evidence_only_moves_its_time() -> None:
    after, released = review(rows([]), BEGUN, NOW_MS + WEEK_MS) or (BEGUN, [])

    assert after == Kept(SCOPE, 2, NOW_MS + WEEK_MS, {})
    assert released == []


B_IS_CERTAIN = rows([("code", "a", 400, 0.5), ("code", "b", 400, 0.95), ("code", "c", 400, 0.8)])


def test_what_is_certain_is_released_at_the_look_that_finds_it() -> None:
    after, released = review(B_IS_CERTAIN, BEGUN, NOW_MS + 1) or (BEGUN, [])

    assert after == Kept(SCOPE, 2, NOW_MS, {"code": "b"}, certain_at_ms={"code": NOW_MS + 1})
    assert [(r.task, r.before, r.after, r.reason) for r in released] == [
        ("code", "a", "b", "certain")
    ]
    assert (released[0].p_better or 0) > 0.999
    assert review(B_IS_CERTAIN, after, NOW_MS + 2) is None


@pytest.mark.parametrize(
    ("task", "waited_ms", "released"),
    [
        ("code", DAY_MS - 1, False),
        ("code", DAY_MS, True),
        ("chat", 1, True),
    ],
)
def test_what_is_certain_moves_a_task_once_a_day_at_most(
    task: str, waited_ms: int, released: bool
) -> None:
    kept = Kept(SCOPE, 7, NOW_MS, {"code": "c"}, certain_at_ms={task: NOW_MS})

    found = review(B_IS_CERTAIN, kept, NOW_MS + waited_ms)

    assert (found is not None) is released
    if found is not None:
        assert found[0].current == {"code": "b"}
        assert found[0].certain_at_ms == {task: NOW_MS} | {"code": NOW_MS + waited_ms}


def test_a_review_that_is_due_asks_all_tasks_as_ever_and_leaves_the_day_alone() -> None:
    kept = Kept(SCOPE, 7, NOW_MS, {}, certain_at_ms={"code": NOW_MS + WEEK_MS - 1})

    after, released = review(B_IS_CERTAIN, kept, NOW_MS + WEEK_MS) or (kept, [])

    assert set(after.current.values()) == {"b"}
    assert {r.reason for r in released} == {"better"}
    assert after.certain_at_ms == kept.certain_at_ms


def test_a_key_that_goes_on_as_it_began_explores_everywhere_once_a_day_of_that_is_affordable() -> (
    None
):
    found = rows([("code", "a", 30_000, 0.5), ("chat", "a", 10_000, 0.5)])
    now_ms = int(time.time() * 1000)

    def notes(age_ms: int) -> set[str]:
        kept = Kept(SCOPE, 1, now_ms, {}, begun_at_ms=now_ms - age_ms)
        state_of = state(found, kept=kept)
        return {note_of(state_of, "code"), note_of(state_of, "chat")}

    assert notes(DAY_MS) == {"", choices.ELSEWHERE}
    assert notes(300 * DAY_MS) == {""}


def test_a_removed_choice_falls_back_at_once() -> None:
    without_b = configuration("ac")
    kept = Kept(SCOPE, 5, NOW_MS, {"code": "b", "chat": "c"})
    found = rows([], without_b)

    assert law_of(state(found, without_b, kept), "code", without_b).current == 0
    after, released = review(found, kept, NOW_MS + 1, without_b) or (kept, [])
    assert after == Kept(SCOPE, 6, NOW_MS, {"code": "a", "chat": "c"})
    assert [(r.before, r.after, r.reason) for r in released] == [("b", "a", "removed")]


def test_a_choice_outlives_the_removal_of_one_host(client: Any) -> None:
    def with_hosts(*names: str) -> Configuration:
        return configuration(
            endpoints=[
                {"id": n, "model": n[0], "base_url": f"http://127.0.0.1:1/{n}"} for n in names
            ]
        )

    both, second = with_hosts("a", "b1", "b2"), with_hosts("a", "b2")
    before = Kept(SCOPE, 0, 0, {"code": "b1"})
    written, _ = review(rows([], both), before, NOW_MS, both) or (BEGUN, [])
    assert Releases(client).change(written, [], now_ms=NOW_MS)
    ledger = Releases(client)
    ledger.read()
    kept = ledger.kept[SCOPE]

    assert kept.hosts == {"b1": ("b1", "b2")}
    assert law_of(state(rows([], second), second, kept), "code", second).current == 1
    assert review(rows([], second), kept, NOW_MS + 1, second) is None


def test_a_task_that_this_configuration_does_not_know_is_kept() -> None:
    kept = Kept(SCOPE, 5, NOW_MS, {"gone": "b"})
    after, _ = review(rows([]), kept, NOW_MS + WEEK_MS) or (kept, [])

    assert after.current == {"gone": "b"}


def test_another_incumbent_is_another_review_key() -> None:
    other = configuration(strategies={"quality": {"incumbent": "b"}})

    assert seeds(other) == [ReviewKey("default", "quality", "", "b")]
    assert known_review_keys(other, [SCOPE]) == seeds(other)
    assert other.strategies["quality"].release_every_s == 604_800


def test_learning_mode_and_apps_that_observe_have_no_choices() -> None:
    learning = configuration(strategies={"quality": {"incumbent": "none"}})
    observing = configuration(apps={"default": {"mode": "observe"}})

    assert seeds(learning) == seeds(observing) == []
    assert known_review_keys(learning, [SCOPE], [SCOPE]) == []


def priced(*names_and_usd: tuple[str, float]) -> Configuration:
    """Endpoints with prices, for an app that wants the cheapest."""
    return configuration(
        endpoints=[
            {
                "id": name,
                "model": name,
                "base_url": "http://127.0.0.1:1/",
                "prices": {"input_usd_per_mtok": usd, "output_usd_per_mtok": usd},
            }
            for name, usd in names_and_usd
        ],
        apps={"default": {"mode": "route", "strategy": "cheapest"}},
    )


PRICED = priced(("a", 30), ("b", 20), ("c", 1))
ORDERED = ReviewKey("default", "cheapest", "", "a")


def calls_of(*counts: tuple[str, str, int], of: Configuration = PRICED) -> Terms:
    """Calls without labels that are `(task, endpoint, n)`."""
    return rows([(t, e, n, 0.0) for t, e, n in counts], of, ORDERED, labelled=False)


def ordered(found: Terms, kept: Kept | None, at_ms: int, *, lost: tuple[str, ...] = ()):
    posterior = beliefs(found, PRICED).posterior
    return reviews.review(ORDERED, kept, posterior, PRICED, now_ms=at_ms, lost=lost)


def test_cheapest_serves_the_first_in_the_order_once_a_task_has_twenty_calls() -> None:
    before = ordered(calls_of(("code", "a", 19)), None, NOW_MS)
    found = calls_of(("code", "a", 20))
    after, released = ordered(found, None, NOW_MS) or (BEGUN, [])

    assert before is not None
    assert before[0].current == {}
    assert after.current == {"code": "c"}
    assert [(r.task, r.after, r.reason) for r in released] == [("code", "c", "first in the order")]
    assert (released[0].p_better or 0) >= 0.9
    assert ordered(found, after, NOW_MS + 1000) is None
    stands = state(found, PRICED, after)
    assert stands.room is None
    assert law_of(stands, "code", PRICED).stay == 0.9
    assert note_of(stands, "code", PRICED) == choices.UNCHECKED
    assert PRICED.strategies["cheapest"].release_every_s == 3600


def test_an_order_leaves_what_is_lost_at_once_and_its_return_is_no_second_move() -> None:
    found = calls_of(("code", "a", 20))
    stood, _ = ordered(found, None, NOW_MS) or (BEGUN, [])
    after, released = ordered(found, stood, NOW_MS + 1, lost=("c",)) or (BEGUN, [])

    assert [(r.before, r.after, r.reason) for r in released] == [("c", "b", "next after a loss")]
    assert after.moved_at_ms == {"code": NOW_MS}
    assert after.left_at_ms == {"code": {"a": NOW_MS, "c": NOW_MS + 1}}
    assert ordered(found, after, NOW_MS + 2, lost=("c",)) is None
    assert ordered(found, after, NOW_MS + 3) is None  # it waits for the review
    back, _ = ordered(found, after, NOW_MS + HOUR_MS) or (BEGUN, [])
    assert back.current == {"code": "c"}  # at these prices surely


def test_with_everybody_lost_an_order_stays() -> None:
    found = calls_of(("code", "a", 20))
    stood, _ = ordered(found, None, NOW_MS) or (BEGUN, [])

    assert ordered(found, stood, NOW_MS + 1, lost=("a", "b", "c")) is None


def test_whom_an_order_left_is_remembered_for_a_day() -> None:
    found = calls_of(("code", "a", 20))
    stood, _ = ordered(found, None, NOW_MS) or (BEGUN, [])
    lost, _ = ordered(found, stood, NOW_MS + DAY_MS, lost=("c",)) or (BEGUN, [])

    assert stood.left_at_ms == {"code": {"a": NOW_MS}}
    assert lost.left_at_ms == {"code": {"c": NOW_MS + DAY_MS}}


def test_an_order_goes_on_to_the_next_when_its_first_is_removed() -> None:
    of = priced(("a", 3), ("b", 2))
    kept = Kept(ORDERED, 4, NOW_MS, dict.fromkeys(of.task_index, "c"))
    posterior = beliefs(rows([]), of).posterior
    after, released = reviews.review(kept.review_key, kept, posterior, of, now_ms=NOW_MS + 1) or (
        BEGUN,
        [],
    )

    assert set(after.current.values()) == {"b"}
    assert [r.reason for r in released] == ["removed"] * 3 + ["next after a loss"] * 3
    assert after.left_at_ms == {}  # by the incumbent they only passed


def test_release_every_s_is_checked() -> None:
    with pytest.raises(ConfigError, match="release_every_s"):
        configuration(strategies={"quality": {"release_every_s": 0}})


# -- the store ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("store")  # a script decides
def test_of_two_that_change_the_same_version_one_wins(client: Any) -> None:
    one, two = Releases(client), Releases(client)
    change = ReleaseNotice("code", "a", "b", 0.95, 0.1, "better")
    assert one.change(BEGUN, [], now_ms=NOW_MS)
    assert two.read()
    later = Kept(SCOPE, 2, NOW_MS + 1, {"code": "b"})

    assert one.change(later, [change], now_ms=NOW_MS + 1)
    assert not two.change(Kept(SCOPE, 2, NOW_MS + 2, {"code": "c"}), [change], now_ms=NOW_MS + 2)

    assert two.read()
    assert two.kept == {SCOPE: later}
    assert not two.read()
    (entry,) = client.xrange(keys.RELEASES)
    told = json.loads(entry[1][b"release"])
    assert (told["task"], told["before"], told["after"]) == ("code", "a", "b")
    assert (told["p_better"], told["version"], told["at_ms"]) == (0.95, 2, NOW_MS + 1)


def test_what_was_certain_and_since_when_a_key_is_known_outlive_a_restart(client: Any) -> None:
    after, released = review(B_IS_CERTAIN, None, NOW_MS) or (BEGUN, [])
    assert Releases(client).change(after, released, now_ms=NOW_MS)
    ledger = Releases(client)
    ledger.read()

    assert ledger.kept == {SCOPE: after}
    assert ledger.kept[SCOPE].certain_at_ms == {"code": NOW_MS}
    assert ledger.kept[SCOPE].begun_at_ms == NOW_MS


@pytest.mark.usefixtures("store")  # a script decides
def test_standings_of_the_version_before_are_read_and_go_on(client: Any) -> None:
    written = {
        "version": 3,
        "reviewed_at_ms": NOW_MS,
        "current": {"code": "c"},
        "hosts": {"c": ["c"]},
        "scope": {"app": "default", "strategy": "quality", "model": "", "incumbent": "a"},
    }
    client.hset(keys.STANDINGS, f"{SCOPE.digest:016x}", json.dumps(written).encode())
    ledger = Releases(client)
    ledger.read()
    kept = ledger.kept[SCOPE]

    assert kept == Kept(SCOPE, 3, NOW_MS, {"code": "c"})
    assert kept.begun_at_ms == NOW_MS  # it is at least so old, and stays so
    after, released = review(B_IS_CERTAIN, kept, NOW_MS + 5) or (kept, [])
    assert [r.reason for r in released] == ["certain"]
    assert ledger.change(after, released, now_ms=NOW_MS + 5)
    assert Releases(client).read()
    assert after.begun_at_ms == NOW_MS


@pytest.mark.usefixtures("store")  # a script decides
def test_an_order_goes_on_from_standings_that_knew_no_moves(client: Any) -> None:
    """Laid down by the version before, they are read, moved on from, and read by the next."""
    written = {
        "version": 3,
        "reviewed_at_ms": NOW_MS,
        "current": {"code": "b", "chat": "c"},
        "hosts": {"b": ["b"], "c": ["c"]},
        "certain_at_ms": {},
        "begun_at_ms": NOW_MS - 7,
        "scope": {"app": "default", "strategy": "cheapest", "model": "", "incumbent": "a"},
    }
    client.hset(keys.STANDINGS, f"{ORDERED.digest:016x}", json.dumps(written).encode())
    ledger = Releases(client)
    ledger.read()
    kept = ledger.kept[ORDERED]

    assert kept == Kept(ORDERED, 3, NOW_MS, {"code": "b", "chat": "c"})
    found = calls_of(("code", "b", 30), ("chat", "c", 30))
    after, released = ordered(found, kept, NOW_MS + HOUR_MS) or (kept, [])
    assert [(r.task, r.before, r.after) for r in released] == [("code", "b", "c")]
    assert ledger.change(after, released, now_ms=NOW_MS + HOUR_MS)
    other = Releases(client)
    other.read()
    assert other.kept[ORDERED] == after
    assert other.kept[ORDERED].moved_at_ms == {"code": NOW_MS + HOUR_MS}
    assert other.kept[ORDERED].left_at_ms == {"code": {"b": NOW_MS + HOUR_MS}}
    assert other.kept[ORDERED].last == after.last
    assert other.kept[ORDERED].begun_at_ms == NOW_MS - 7


@pytest.mark.usefixtures("store")  # a script reads them
def test_damaged_standings_count_as_none(client: Any) -> None:
    ledger = Releases(client)
    for value in (b"{", b"7", b"{}", b'{"version": "x"}'):
        client.hset(keys.STANDINGS, f"{SCOPE.digest:016x}", value)

        assert ledger.read()
        assert ledger.kept == {}
        assert ledger.change(BEGUN, [], now_ms=NOW_MS)


def _store(client: Any, found: Terms) -> None:
    """Lay rows out as a worker does."""
    for key, value in zip(found.keys, found.values, strict=True):
        client.hset(keys.rows(0), key.tobytes(), value.astype("<i8").tobytes())
        client.zadd(keys.touched(0), {key.tobytes(): 1})
    client.hset(keys.meta(0), "version", 1)
    client.hset(keys.META, "incarnation", "x")


@pytest.mark.usefixtures("store")  # a script decides
def test_keepers_at_the_same_time_release_once(
    client: Any, address: Address, state_dir: Path
) -> None:
    often = configuration(strategies={"quality": {"release_every_s": 0.3}})
    _store(client, B_IS_BETTER)
    keepers = [Keeper(often, address, state_dir) for _ in range(3)]
    for thread in [threading.Thread(target=k.start) for k in keepers]:
        thread.start()
    ledger = Releases(client)
    try:
        pause = threading.Event()
        for _ in range(200):
            ledger.read()
            found = [k.current.choices.get(SCOPE) for k in keepers]
            if all(c is not None and law_of(c, "code").current == 1 for c in found):
                break
            pause.wait(0.02)
        else:
            pytest.fail("it was not released everywhere")
    finally:
        for keeper in keepers:
            keeper.stop()

    told = [json.loads(entry[1][b"release"]) for entry in client.xrange(keys.RELEASES)]
    assert sorted(t["task"] for t in told) == ["chat", "code", "general"]
    assert {t["after"] for t in told} == {"b"}


@pytest.mark.usefixtures("store")  # a script decides
def test_keepers_release_what_is_certain_once_although_no_review_is_due(
    client: Any, address: Address, state_dir: Path
) -> None:
    _store(client, B_IS_CERTAIN)
    keepers = [Keeper(ABC, address, state_dir) for _ in range(3)]
    for thread in [threading.Thread(target=k.start) for k in keepers]:
        thread.start()
    deadline = time.monotonic() + 10
    try:
        while not all(
            SCOPE in k.current.choices and law_of(k.current.choices[SCOPE], "code").current == 1
            for k in keepers
        ):
            assert time.monotonic() < deadline, "it was not released everywhere"
            time.sleep(0.02)
    finally:
        for keeper in keepers:
            keeper.stop()

    told = [json.loads(entry[1][b"release"]) for entry in client.xrange(keys.RELEASES)]
    assert [(t["task"], t["after"], t["reason"]) for t in told] == [("code", "b", "certain")]


@pytest.mark.usefixtures("store")  # a script decides
def test_a_keeper_sees_to_what_is_lost_although_nothing_else_changed(
    client: Any, address: Address, state_dir: Path
) -> None:
    _store(client, calls_of(("code", "a", 20)))
    keeper = Keeper(PRICED, address, state_dir)

    def stands_at(group: int) -> bool:
        found = keeper.current.choices.get(ORDERED)
        return found is not None and law_of(found, "code", PRICED).current == group

    def until_at(group: int) -> None:
        deadline = time.monotonic() + 10
        while not stands_at(group):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    keeper.start()
    try:
        until_at(2)
        keeper.find_lost = lambda: frozenset({"c"})
        until_at(1)
    finally:
        keeper.stop()

    told = [json.loads(entry[1][b"release"]) for entry in client.xrange(keys.RELEASES)]
    assert [(t["before"], t["after"], t["reason"]) for t in told] == [
        ("a", "c", "first in the order"),
        ("c", "b", "next after a loss"),
    ]


def test_a_start_knows_the_choices_before_its_first_draw(
    client: Any, address: Address, state_dir: Path
) -> None:
    Releases(client).change(Kept(SCOPE, 1, NOW_MS, {"chat": "c"}), [], now_ms=NOW_MS)
    keeper = Keeper(ABC, address, state_dir)
    keeper.start()
    try:
        assert law_of(keeper.current.choices[SCOPE], "chat").current == 2
    finally:
        keeper.stop()


def test_with_the_store_away_the_last_standings_hold(
    client: Any, store: Any, address: Address, state_dir: Path
) -> None:
    _store(client, B_IS_BETTER)
    Releases(client).change(Kept(SCOPE, 1, NOW_MS * 2, {"code": "b"}), [], now_ms=NOW_MS)
    keeper = Keeper(ABC, address, state_dir)
    keeper.start()
    try:
        client.flushall()
        threading.Event().wait(0.6)
        assert law_of(keeper.current.choices[SCOPE], "code").current == 1
    finally:
        keeper.stop()


@pytest.mark.usefixtures("store")  # it is full
def test_a_store_that_refuses_writes_still_brings_posteriors(
    client: Any, address: Address, state_dir: Path
) -> None:
    often = configuration(strategies={"quality": {"release_every_s": 0.1}})
    _store(client, B_IS_BETTER)
    client.config_set("maxmemory", 1)
    keeper = Keeper(often, address, state_dir)
    keeper.start()
    try:
        assert keeper.store_up
        assert keeper.current.posterior.calls.sum() == 200
        assert law_of(keeper.current.choices[SCOPE], "code").current == 0
        client.config_set("maxmemory", 0)
        deadline = time.monotonic() + 5
        while law_of(keeper.current.choices[SCOPE], "code").current != 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        keeper.stop()
