"""Raters: of each, three decisions count in a cell and day, whatever comes in whatever order."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import LEARN, SHARDS, Provider, Sidecar, endpoint, learning, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from bandit import cells
from bandit.families import D, Family, Q
from router.report import more_lines
from router.report.gather import Report
from telemetry import events, frames, keys, tokens
from telemetry.events import FeedbackKind, Flag
from telemetry.frames import Frame
from telemetry.reader import RaterCounts, Reader
from telemetry.secret import RATERS_FIELD, raters_key
from telemetry.store import Address, prepare
from telemetry.tokens import Token
from workers.archive import files as archive_files
from workers.archive.archive import Archive, ArchiveLimits
from workers.archive.audit import audit_state
from workers.archive.files import ArchiveFile
from workers.archive.rebuilt import Rebuilt, difference
from workers.archive.restore import restore
from workers.folding import raters
from workers.folding.batch import DAY_MS, Entries
from workers.folding.lease import Lease
from workers.folding.raters import MOST_COUNTED, rank
from workers.folding.shard import Shard

NOW_MS = int(time.time() * 1000)
DAY = NOW_MS // DAY_MS
KEY = b"of the store"
UNRATED: dict[str, Any] = {"flags": int(Flag.ROUTED), "spread": 0.0}
"""Of a decision that counts as a rater's does where it counts: it raises no alarm."""
RATED = int(Flag.ROUTED | Flag.RATED)
NONCES = sorted((n.to_bytes(16, "big") for n in range(1, 9)), key=lambda nonce: rank(nonce, KEY))
"""Of the lowest rank first."""
JUDGE, HUMAN, DERIVED = FeedbackKind.JUDGE, FeedbackKind.HUMAN, FeedbackKind.DERIVED


def token(
    nonce: bytes,
    *,
    user: int = 7,
    app: int = 6,
    executed: int = 3,
    category: int = 1,
    at_ms: int = NOW_MS,
    flags: int = RATED,
    spread: float = 0.4,
) -> bytes:
    whole = (nonce, at_ms, category, 2, executed, 4, app, 6, 7, 0.5, 0.5, 0.1, spread, 1, user)
    return Token(1, 0, flags, *whole).pack()


def said(
    body: bytes, value: float | None, *, at: int = 0, kind: FeedbackKind = HUMAN, revision: int = 0
) -> bytes:
    event = NOW_MS.to_bytes(6, "big") + at.to_bytes(4, "big") + bytes(6)
    return events.feedback(body, kind=kind, value=value, revision=revision, event=event)


def entries_of(batches: Sequence[Sequence[bytes]]) -> list[Entries]:
    out = []
    for i, batch in enumerate(batches):
        frame = frames.pack(Frame(frames.UNNUMBERED, 0, 0, b"".join(batch)))
        out.append([(b"%d-%d" % (NOW_MS, i), {b"f": frame})])
    return out


def folded(*batches: Sequence[bytes]) -> Rebuilt:
    """Return the state after batches of records, each folded at once."""
    state = Rebuilt(raters_key=KEY)
    for entries in entries_of(batches):
        state.fold(entries)
    return state


def total(state: Rebuilt, family: Family, column: int, *, executed: int | None = None) -> float:
    found = 0
    for name, row in state.rows.items():
        key = np.frombuffer(name, dtype=cells.KEY)[0]
        if key["family"] == family and executed in (None, int(key["endpoint"])):
            found += int(row[column])
    return found


def n_counted(state: Rebuilt, **of: int) -> float:
    return total(state, Family.QUALITY, Q.LABELS, **of)


def test_three_decisions_of_a_rater_count_and_they_are_those_of_the_lowest_ranks() -> None:
    state = folded([said(token(nonce), 1.0) for nonce in NONCES])

    lowest = folded([said(token(nonce), 1.0) for nonce in NONCES[:MOST_COUNTED]])
    assert n_counted(state) == MOST_COUNTED == 3
    assert difference(state, lowest) is None


@pytest.mark.parametrize("order", list(permutations(range(5))))
def test_the_order_of_arrival_shows_nowhere(order: tuple[int, ...]) -> None:
    values = [0.0, 1.0, 0.25, 0.5, 0.75]
    told = [said(token(nonce), value) for nonce, value in zip(NONCES, values, strict=False)]

    one_by_one = folded(*([told[place]] for place in order))

    assert difference(one_by_one, folded(told[:3])) is None
    assert one_by_one.raters == folded(told).raters


def test_what_is_not_rated_counts_without_bound() -> None:
    state = folded([said(token(nonce, flags=int(Flag.ROUTED)), 1.0) for nonce in NONCES])

    assert n_counted(state) == len(NONCES)
    assert state.raters == {}


@pytest.mark.parametrize(
    "other",
    [{"user": 8}, {"app": 9}, {"category": 2}, {"executed": 4}, {"at_ms": NOW_MS - DAY_MS}],
)
def test_each_rater_app_cell_and_day_has_three_of_its_own(other: dict[str, int]) -> None:
    """So two apps' users of one name are two raters."""
    half = NONCES[::2], NONCES[1::2]
    state = folded(
        [said(token(nonce), 1.0) for nonce in half[0]],
        [said(token(nonce, **other), 1.0) for nonce in half[1]],
    )

    assert n_counted(state) == 6


def test_calls_without_a_user_are_one_rater_of_their_app() -> None:
    first = [said(token(nonce, user=0, app=1), 1.0) for nonce in NONCES[:4]]
    second = [said(token(nonce, user=0, app=2), 1.0) for nonce in NONCES[4:]]

    assert n_counted(folded(first + second)) == 6


def test_a_correction_of_a_counted_label_counts() -> None:
    words = [said(token(nonce), 1.0) for nonce in NONCES[:4]]
    corrected = said(token(NONCES[0]), 0.0, at=1, revision=1)

    state = folded(words, [corrected])

    assert n_counted(state) == 3
    expected = folded([corrected, *words[1:3]])
    assert difference(state, expected) is None


@pytest.mark.parametrize("value", [0.0, None])
def test_what_is_said_later_of_an_uncounted_decision_changes_nothing(value: float | None) -> None:
    words = [said(token(nonce), 1.0) for nonce in NONCES[:4]]

    state = folded(words, [said(token(NONCES[3]), value, at=1, revision=1)])

    assert difference(state, folded(words)) is None


def test_a_displaced_decision_never_counts_again() -> None:
    """Whatever is said of it, and also where those that displaced it are taken back."""
    words = [said(token(nonce), 1.0) for nonce in NONCES[:4]]
    back = [said(token(nonce), None, at=1, revision=1) for nonce in NONCES[:3]]

    state = folded([words[3]], words[:3], [said(token(NONCES[3]), 0.5, at=1, revision=1)], back)

    assert n_counted(state) == 0
    assert difference(state, folded([])) is None


def test_a_retraction_keeps_its_seat() -> None:
    """Else whoever takes labels back could choose which of his count."""
    words = [said(token(nonce), 1.0) for nonce in NONCES[:4]]
    back = said(token(NONCES[0]), None, at=1, revision=1)

    assert n_counted(folded(words, [back])) == n_counted(folded([back], words)) == 2


def test_a_repeat_that_is_no_news_is_displaced_like_any_other() -> None:
    words = [said(token(nonce), 1.0) for nonce in NONCES[:4]]

    state = folded(words[1:4], [words[3], words[0]])

    assert difference(state, folded(words[:3])) is None


def test_what_was_only_derived_counts_as_ever() -> None:
    read = [said(token(nonce), 1.0, kind=DERIVED) for nonce in NONCES]
    words = [said(token(nonce), 1.0) for nonce in NONCES]

    state = folded(read[:5], words, read[5:])

    assert total(state, Family.DERIVED, D.PAIRS) == 3
    assert total(state, Family.DERIVED, D.N) > 0
    assert n_counted(state) == 3
    unrated = [said(token(nonce, **UNRATED), 1.0, kind=DERIVED) for nonce in NONCES]
    counted = [said(token(nonce, **UNRATED), 1.0) for nonce in NONCES[:3]]
    assert difference(state, folded(unrated + counted)) is None


def test_labels_of_raters_raise_no_alarm() -> None:
    """Thirty bad labels in a row of ten raters are no fall of the endpoint."""
    rated = folded([said(token(nonce), 0.0) for nonce in NONCES])
    unrated = folded([said(token(nonce, flags=int(Flag.ROUTED)), 0.0) for nonce in NONCES])

    assert total(rated, Family.WATCH, Q.LABELS) == 0
    assert total(unrated, Family.WATCH, Q.LABELS) == len(NONCES)


# -- any order, any grouping ---------------------------------------------------------------------

WORDS = st.lists(
    st.tuples(
        st.sampled_from(NONCES),
        st.sampled_from([DERIVED, JUDGE, HUMAN]),
        st.sampled_from([None, 0.0, 1 / 3, 1.0]),
        st.integers(0, 2),  # revision
        st.integers(0, 3),  # event
    ),
    min_size=8,
    max_size=40,
)


def body_of(nonce: bytes, **more: Any) -> bytes:
    """Two raters and two cells; most decisions are of one seat, and displace each other."""
    place = NONCES.index(nonce)
    return token(nonce, user=7 + (place == 6), executed=3 + (place == 4), **more)


def referee(words: list[Any]) -> Rebuilt:
    """Fold what counts by the three lowest of all, with nobody rated."""
    labelled = {nonce for nonce, kind, *_ in words if kind is not DERIVED}
    seats: dict[tuple[bool, bool], list[bytes]] = {}
    for nonce in NONCES:
        place = NONCES.index(nonce)
        if nonce in labelled:
            seats.setdefault((place == 6, place == 4), []).append(nonce)
    counted = {nonce for own in seats.values() for nonce in own[:MOST_COUNTED]}
    return folded(
        [
            said(body_of(n, **UNRATED), value, kind=kind, revision=revision, at=at)
            for n, kind, value, revision, at in words
            if kind is DERIVED or n in counted
        ]
    )


@settings(max_examples=200)
@given(WORDS, st.randoms(use_true_random=False))
def test_any_order_any_grouping_and_repeats_give_the_rows_of_the_three_lowest(
    words: list[Any], dice: random.Random
) -> None:
    # Of two words of one rank the first to come holds, rated or not: here each is said once.
    words = list({(n, kind, revision, at): (n, kind, v, revision, at) for
                  n, kind, v, revision, at in words}.values())  # fmt: skip
    records = [
        said(body_of(n), value, kind=kind, revision=revision, at=at)
        for n, kind, value, revision, at in words
    ]
    records += dice.sample(records, len(records) // 2)
    dice.shuffle(records)
    batches = []
    while records:
        n = dice.randint(1, 7)
        batches.append(records[:n])
        del records[:n]

    assert difference(folded(*batches), referee(words)) is None


# -- in the store, the archive and after a restore -----------------------------------------------


class Life:
    """A shard with its learner and its archive."""

    def __init__(self, client: Any, root: Path) -> None:
        self.client = client
        prepare(client, shards=1)
        self.archive = Archive(client, root, 1)
        self.begin()

    def begin(self) -> None:
        self.lease = Lease(self.client, 0)
        assert self.lease.take()
        self.shard = Shard(self.client, 0)
        self.shard.load()

    def fold(self, *records: bytes) -> None:
        frame = frames.pack(Frame(frames.UNNUMBERED, 0, 0, b"".join(records)))
        entry_id = self.client.xadd(keys.stream(0), {"f": frame})
        self.shard.fold([(entry_id, {b"f": frame})], token=self.lease.token)

    def take(self) -> list[ArchiveFile]:
        return self.archive.take(now_ms=NOW_MS, limits=ArchiveLimits(every_bytes=0))

    def state(self) -> Rebuilt:
        found = Rebuilt()
        found.stand_at(self.archive.state(0, with_labels=True))
        return found

    def by_rank(self) -> list[bytes]:
        key = raters_key(self.client)
        return sorted((n.to_bytes(16, "big") for n in range(1, 9)), key=lambda n: rank(n, key))


@pytest.fixture
def life(client: Any, state_dir: Path) -> Life:
    return Life(client, state_dir / "archive")


def seated(client: Any) -> set[bytes]:
    """Return the nonces that count in the only seat there is."""
    (row,) = client.hgetall(keys.raters(0, DAY)).values()
    return {tokens.nonce_of(one) for one in raters.tokens_in(row)}


def test_a_displaced_decision_is_taken_out_of_the_store_s_rows(life: Life) -> None:
    by_rank = life.by_rank()
    for nonce in reversed(by_rank):
        life.fold(said(token(nonce), 1.0))

    assert n_counted(life.state()) == 3
    assert seated(life.client) == set(by_rank[:3])
    assert life.client.hget(keys.meta(0), "n_not_counted") == b"5"
    assert life.client.hget(keys.meta(0), "n_unnamed") is None
    assert life.client.ttl(keys.raters(0, DAY)) > 30 * 86_400


@pytest.mark.parametrize("grouping", [1, 3, 8])
def test_how_many_do_not_count_does_not_depend_on_batches(life: Life, grouping: int) -> None:
    words = [said(token(n.to_bytes(16, "big"), user=0), 1.0) for n in range(1, 9)]
    for i in range(0, len(words), grouping):
        life.fold(*words[i : i + grouping])
        life.fold(*words[i : i + grouping])  # told again

    assert life.client.hmget(keys.meta(0), "n_not_counted", "n_unnamed") == [b"5", b"8"]


def test_an_audit_ranks_as_the_learner_did(life: Life) -> None:
    for nonce in life.by_rank()[::-1]:
        life.fold(said(token(nonce), 1.0))
        life.take()
    life.fold(said(token(life.by_rank()[0]), 0.0, at=1, revision=1))

    result = audit_state(life.archive)

    assert (result.equal, result.difference) == (True, None)
    assert result.files == 8


def test_an_audit_tells_that_one_more_was_counted(life: Life) -> None:
    for nonce in life.by_rank():
        life.fold(said(token(nonce), 1.0))
    life.take()
    life.client.delete(keys.raters(0, DAY))  # so that the next one finds free seats
    life.fold(said(token(b"x" * 16), 1.0))

    assert not audit_state(life.archive).equal


def test_a_restored_store_goes_on_with_the_same_raters(life: Life) -> None:
    by_rank = life.by_rank()
    life.fold(*(said(token(nonce), 1.0) for nonce in by_rank[1:6]))
    life.take()
    key, kept = raters_key(life.client), life.client.hgetall(keys.raters(0, DAY))
    life.client.flushall()

    restore(life.archive)

    assert life.client.hget(keys.META, RATERS_FIELD) == key
    assert life.client.hgetall(keys.raters(0, DAY)) == kept
    assert life.client.ttl(keys.raters(0, DAY)) > 30 * 86_400
    life.begin()
    life.fold(said(token(by_rank[0]), 1.0), said(token(by_rank[6]), 1.0))
    assert seated(life.client) == set(by_rank[:3])
    assert n_counted(life.state()) == 3


def test_a_base_holds_the_raters(life: Life) -> None:
    life.fold(said(token(NONCES[0]), 1.0))
    life.take()
    life.fold(said(token(NONCES[1]), 1.0))
    life.client.xtrim(keys.stream(0), maxlen=0, approximate=False)  # beyond the archive

    (base,) = life.take()

    assert base.is_base
    assert archive_files.read(base).raters == life.state().raters != {}


def test_a_base_of_the_version_before_raters_is_restored(client: Any, state_dir: Path) -> None:
    """`data/base_of_schema_4.parquet` was written by the last version that knew none."""
    kept = Path(__file__).parent / "data" / "base_of_schema_4.parquet"
    told = json.loads(kept.with_suffix(".json").read_text())
    archive = Archive(client, state_dir / "archive", 1)
    archive.directory(0).mkdir(parents=True)
    shutil.copy(kept, archive.directory(0) / told["name"])
    (file,) = archive_files.list_files(archive.directory(0))

    content = archive_files.read(file)
    found = restore(archive)

    assert (content.raters, len(content.labels)) == ({}, told["labels"])
    assert (found.rows, found.damaged) == (told["rows"], 0)
    life = Life(client, archive.root)
    life.fold(*(said(token(nonce, category=9), 1.0) for nonce in NONCES))
    assert len(seated(client)) == 3


def test_the_key_follows_from_the_store_s_secret_and_does_not_tell_it(client: Any) -> None:
    client.set(keys.SECRET, b"s" * 32)
    key = raters_key(client)
    client.hdel(keys.META, RATERS_FIELD)

    assert raters_key(client) == key
    assert key != b"s" * 32
    client.set(keys.SECRET, b"t" * 32)
    assert raters_key(client) == key, "once made it stays"
    client.hdel(keys.META, RATERS_FIELD)
    assert raters_key(client) != key


def test_a_store_without_raters_has_no_key(life: Life) -> None:
    life.fold(said(token(NONCES[0], flags=int(Flag.ROUTED)), 1.0))

    assert life.client.hget(keys.META, RATERS_FIELD) is None


# -- from a call to the report -------------------------------------------------------------------


@pytest.fixture
def shop(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sidecar]:
    apps = {}
    for name, is_rated in (("shop", True), ("desk", True), ("team", False)):
        monkeypatch.setenv(f"KEY_OF_{name.upper()}", key_of(name))
        keys_of_it = [{"env": f"KEY_OF_{name.upper()}"}]
        apps[name] = {"mode": "route", "strategy": "learn", "raters": is_rated, "keys": keys_of_it}
    value = {"endpoints": [endpoint(provider, "a")], "strategies": LEARN, "apps": apps}
    with ExitStack() as stack:
        found = stack.enter_context(serving(value, state_dir, address))
        stack.enter_context(learning(state_dir, address))
        yield found


def key_of(app: str) -> str:
    return f"key-of-{app}"


def rate(shop: Sidecar, app: str, user: str | None, n: int) -> None:
    for _ in range(n):
        headers = {"x-router-key": key_of(app)} | ({"x-router-user": user} if user else {})
        got = shop.chat("auto", headers=headers)
        body = {"decision_id": got.headers["x-router-decision-id"], "passed": True}
        key = {"x-router-key": key_of(app)}
        assert shop.http.post("/v1/feedback", json=body, headers=key).status_code == 202


def counted(client: Any, field: str) -> int:
    return sum(int(client.hget(keys.meta(shard), field) or 0) for shard in range(SHARDS))


def labels_in(client: Any) -> int:
    rows = {}
    for shard in range(SHARDS):
        rows.update({(shard, k): v for k, v in client.hgetall(keys.rows(shard)).items()})
    terms = cells.from_bytes(b"".join(k for _, k in rows), b"".join(rows.values()))
    return int(cells.of_family(terms, Family.QUALITY).values[:, Q.LABELS].sum())


def test_of_each_user_of_an_app_with_raters_three_labels_count(shop: Sidecar, client: Any) -> None:
    """Also of one whose name another app's user has; who has no name is one with all such."""
    rate(shop, "shop", "ann", 5)
    rate(shop, "shop", "bob", 2)
    rate(shop, "desk", "ann", 5)
    rate(shop, "desk", None, 6)
    rate(shop, "team", "ann", 5)

    shop.until(lambda: counted(client, "n_feedback") == 23)

    assert labels_in(client) == 3 + 2 + 3 + 3 + 5
    assert counted(client, "n_not_counted") == 2 + 2 + 3
    assert counted(client, "n_unnamed") == 6
    shop.until(lambda: shop.app.keeper.raters == (7, 6))
    metrics = shop.http.get("/metrics", headers={"x-router-key": key_of("team")}).text
    assert "router_labels_not_counted 7" in metrics
    assert "router_labels_unnamed 6" in metrics


@pytest.mark.parametrize("word", [{"retried": True}, {"score": 0, "kind": "derived"}])
def test_what_a_rater_says_does_not_pass_for_read_off_a_call(
    shop: Sidecar, client: Any, word: dict[str, Any]
) -> None:
    """What is read off calls is not bounded by rater."""
    key = {"x-router-key": key_of("shop")}
    got = shop.chat("auto", headers=key | {"x-router-user": "ann"})
    body = {"decision_id": got.headers["x-router-decision-id"], **word}

    refused = shop.http.post("/v1/feedback", json=body, headers=key)

    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, "decision_id")
    assert "takes no derived label" in error["message"]
    assert "send score, passed, thumb or edit_ratio" in error["message"]
    team = {"x-router-key": key_of("team")}
    got = shop.chat("auto", headers=team)
    body["decision_id"] = got.headers["x-router-decision-id"]
    assert shop.http.post("/v1/feedback", json=body, headers=team).status_code == 202


def test_the_report_tells_what_of_raters_does_not_count() -> None:
    report = Report(raters=RaterCounts(not_counted=7, unnamed=6))

    assert report.as_json()["raters"] == {"not_counted": 7, "unnamed": 6}
    beyond, unnamed = more_lines.rater_lines(report.raters)
    assert "7 labelled decisions beyond the three of a rater, cell and day" in beyond
    assert "6 labelled decisions name no user" in unnamed
    assert more_lines.rater_lines(RaterCounts()) == []


def test_report_reads_the_counts_of_all_shards(client: Any, address: Address) -> None:
    for shard in range(SHARDS):
        client.hset(keys.meta(shard), mapping={"n_not_counted": 2 + shard, "n_unnamed": 1})

    reader = Reader(client, SHARDS, key_bytes=1, row_bytes=1)
    reader.poll()

    assert reader.raters == (5, 2)


def test_all_decisions_of_a_rater_are_of_one_shard(shop: Sidecar, client: Any) -> None:
    rate(shop, "shop", "ann", 12)
    rate(shop, "shop", None, 12)
    shop.until(lambda: counted(client, "n_feedback") == 24)

    shards: dict[tuple[int, int], set[int]] = {}
    for shard in range(SHARDS):
        for row in client.hgetall(keys.raters(shard, time.time_ns() // 10**6 // DAY_MS)).values():
            for packed in raters.tokens_in(row):
                found = Token.unpack(packed)
                shards.setdefault((found.app, found.user), set()).add(shard)

    assert len(shards) == 2
    for (app, user), own in shards.items():
        assert own == {(user or app) % SHARDS}
