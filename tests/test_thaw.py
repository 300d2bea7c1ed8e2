"""Old decisions put back: what is said of them late counts once, at the weight of their time.

What it is measured by: all records folded as if every decision had been young.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pipeline import said_in_store
from test_workers_archive import outcome, token
from test_young import DAY_MS, RATED, YoungLife, check, name, referee, told

from telemetry import events, keys, thawing
from telemetry.embedded import PrivateServer
from telemetry.events import FeedbackKind, Flag, Match
from telemetry.layouts import TOKEN
from telemetry.secret import raters_key
from telemetry.young import HOUR_MS
from workers.archive import files as archive_files
from workers.archive import tail as tail_module
from workers.archive import thaw as thaw_module
from workers.archive.rebuilt import Rebuilt
from workers.archive.restore import restore
from workers.archive.retention import Keep, prune
from workers.archive.thaw import UNKNOWN, Thawing
from workers.folding.held import References, take_up

FINAL = int(Flag.FINAL | Flag.ROUTED | Flag.USAGE_KNOWN)


class Killed(Exception):
    """The job ends here."""


class OldLife(YoungLife):
    """A shard whose past is told by hand, and whose present is the store's own."""

    def __init__(self, client: Any, root: Path) -> None:
        super().__init__(client, root, hours=24)
        self.now_ms = self.real_ms() - 32 * DAY_MS
        self.thawing = Thawing()
        self.ahead_ms = 60_000

    def real_ms(self) -> int:
        seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def tell_at(self, records: list[tuple[int, bytes]]) -> None:
        """Have records come at their times, some at once, and archive them now and then."""
        for i, (at_ms, record) in enumerate(sorted(records, key=lambda pair: pair[0])):
            self.tell(record, after_ms=max(at_ms - self.now_ms, 1))
            if i % 40 == 39:
                self.take()
                self.prune()

    def come_to_now(self) -> None:
        """Archive all of the past."""
        self.tell(outcome(10**6, at_ms=self.now_ms), after_ms=self.real_ms() - self.now_ms - 1000)
        self.take()
        self.prune()

    def say(self, *records: bytes) -> None:
        """Send records now, and fold them."""
        self.send(*records)
        self.fold()

    def thaw(self) -> int:
        return self.thawing.look(self.archive)

    def resolve_all(self) -> None:
        """Let a minute pass for what waits by reference, and a second more each time."""
        take_up(self.client, 0)
        owned = [(self.shard, self.lease.token)]
        self.ahead_ms += 1000
        assert References(1).look(self.client, owned, self.real_ms() + self.ahead_ms) == []

    def settle(self) -> None:
        """Until nothing is cold any more, as far as the archive knows it."""
        for _ in range(3):
            self.resolve_all()
            self.thaw()
            self.resolve_all()
            self.fold()

    def reasons(self) -> list[str]:
        dead = self.client.xrange(keys.dead(0))
        return [fields[b"reason"].decode() for _, fields in dead]


@pytest.fixture
def life(client: Any, state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> OldLife:
    life = OldLife(client, state_dir / "archive")
    now = thaw_module._now_ms
    monkeypatch.setattr(thaw_module, "_now_ms", lambda client: now(client) + 60_000)
    return life


def named(n: int) -> dict[str, bytes]:
    """An answer's id, or a caller's reference."""
    return {"response": name(n)} if n % 2 else {"reference": name(n)}


def by_reference(n: int, value: float | None, *, heard_ms: int, **more: Any) -> bytes:
    event = heard_ms.to_bytes(6, "big") + n.to_bytes(4, "big") + bytes(6)
    given = {"kind": FeedbackKind.HUMAN, "revision": 0, "match": Match.LAST, **more}
    return events.feedback(
        None,
        value=value,
        event=event,
        reference=name(n),
        app=5,
        received_at_ms=heard_ms,
        **given,
    )


def test_feedback_for_an_old_decision_counts_once_it_was_looked_up(life: OldLife) -> None:
    at_ms = life.real_ms() - 5 * DAY_MS
    life.tell_at([(at_ms, outcome(1, at_ms=at_ms)), (at_ms, told(1, 0.5, at_ms, heard_ms=at_ms))])
    life.come_to_now()
    life.say(told(1, 1.0, at_ms, heard_ms=life.real_ms(), revision=1))
    assert life.client.hlen(keys.cold(0)) == 1

    assert life.thaw() == 1
    assert life.thaw() == 0, "it is on its way"
    life.fold()

    assert life.client.hlen(keys.cold(0)) == 0
    check(life.archive, referee(life))
    assert life.audit().equal


def test_what_was_put_back_may_hold_newer_words_than_the_archive(life: OldLife) -> None:
    at_ms = life.real_ms() - 5 * DAY_MS
    life.tell_at([(at_ms, outcome(1, at_ms=at_ms)), (at_ms, told(1, 0.5, at_ms, heard_ms=at_ms))])
    life.come_to_now()
    for revision, value in enumerate([1.0, None, 0.25], start=1):
        life.say(told(1, value, at_ms, heard_ms=life.real_ms(), revision=revision))
        life.thawing = Thawing()
        life.thaw()
        life.fold()

    assert life.client.hlen(keys.cold(0)) == 0
    check(life.archive, referee(life))
    assert life.audit().equal


def dying(dice: random.Random, step: Callable[..., Any]) -> Callable[..., Any]:
    """A step before or after which the process is killed now and then."""

    def taken(*arguments: Any, **named: Any) -> Any:
        if dice.random() < 0.15:
            raise Killed
        out = step(*arguments, **named)
        if dice.random() < 0.15:
            raise Killed
        return out

    return taken


@pytest.mark.parametrize("ages_h", [(48, 29 * 24), (20, 27)])
@pytest.mark.parametrize("seed", range(2))
def test_of_200_late_labels_each_counts_once_whoever_is_killed(
    store: PrivateServer,
    life: OldLife,
    ages_h: tuple[int, int],
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of decisions that are in the archive, and of such as turned old after its last file."""
    dice, now_ms = random.Random(seed), life.real_ms()
    youngest_ms, oldest_ms = (hours * HOUR_MS for hours in ages_h)
    made = {n: now_ms - dice.randint(youngest_ms, oldest_ms) for n in range(1, 151)}
    past = [(at, outcome(n, at_ms=at, flags=FINAL, **named(n))) for n, at in made.items()]
    for n, at_ms in made.items():
        if n % 3:
            heard_ms = at_ms + dice.randint(0, 20 * HOUR_MS)
            past.append((heard_ms, told(n, dice.random(), at_ms, heard_ms=heard_ms)))
    life.tell_at(past)
    if youngest_ms > DAY_MS:
        life.come_to_now()
    late: list[bytes] = []
    for n in dice.choices(list(made), k=200):
        value, revision = dice.choice([None, 0.0, dice.random()]), dice.randint(0, 3)
        heard_ms, kind = life.real_ms() + len(late), dice.choice(list(FeedbackKind))
        said = {"heard_ms": heard_ms, "revision": revision, "kind": kind}
        is_by_id = dice.random() < 0.5
        late.append(told(n, value, made[n], **said) if is_by_id else by_reference(n, value, **said))
    late += dice.sample(late, 40)
    for step in ("put_back", "choose"):
        monkeypatch.setattr(thawing, step, dying(dice, getattr(thawing, step)))
    monkeypatch.setattr(thaw_module, "MAX_RECORDS", 7)
    while late:
        life.say(*late[:20])
        del late[:20]
        live_on(life, dice)
    for _ in range(40):
        live_on(life, dice)
    monkeypatch.undo()
    monkeypatch.setattr(thaw_module, "_now_ms", lambda client: life.real_ms() + 60_000)
    life.thawing = Thawing()
    life.settle()

    waiting = [life.client.hlen(kept) for kept in (keys.cold(0), keys.held(0))]
    assert (waiting, life.reasons()) == ([0, 0], [])
    whole = referee(life)
    check(life.archive, whole)
    assert life.count("feedback") > 100
    assert life.audit().equal, life.audit().difference
    life.take()
    rows = counting_rows(life)
    life.client.flushall()
    restore(life.archive)
    assert counting_rows(life) == rows


def counting_rows(life: OldLife) -> dict[bytes, bytes]:
    """The rows without those of which nothing counts any more, which may be gone or not."""
    state = Rebuilt()
    state.stand_at(life.archive.state(0))
    state.forget()
    return {name: row.tobytes() for name, row in state.rows.items()}


def live_on(life: OldLife, dice: random.Random) -> None:
    """One round of a job and a worker, one of which may be killed."""
    with suppress(Killed):
        life.thaw()
    if dice.random() < 0.3:
        life.thawing = Thawing()
    if dice.random() < 0.5:
        life.resolve_all()
    if dice.random() < 0.7:
        life.fold()
    if dice.random() < 0.2:
        life.begin(24)
    if dice.random() < 0.1:
        life.take()
        life.prune()


def test_feedback_by_the_reference_of_an_old_decision_is_sent_there(life: OldLife) -> None:
    at_ms = life.real_ms() - 20 * DAY_MS
    life.tell_at([(at_ms, outcome(2, at_ms=at_ms, flags=FINAL, **named(2)))])
    life.come_to_now()
    life.say(by_reference(2, 1.0, heard_ms=life.real_ms()))
    life.settle()

    assert life.client.hlen(keys.held(0)) == 0
    assert (life.count("cold"), life.count("resolved"), life.count("feedback")) == (1, 1, 1)
    check(life.archive, referee(life))


def test_a_reference_that_means_several_old_decisions_is_no_guess(life: OldLife) -> None:
    times = [life.real_ms() - n * DAY_MS for n in (9, 8)]
    pairs = enumerate(times, start=1)
    life.tell_at([(at, outcome(n, at_ms=at, flags=FINAL, reference=name(2))) for n, at in pairs])
    life.come_to_now()
    life.say(by_reference(2, 1.0, heard_ms=life.real_ms(), match=Match.ONE))
    life.say(by_reference(2, 1.0, heard_ms=life.real_ms() + 1, match=Match.ALL))
    life.settle()

    assert (life.reasons(), life.count("ambiguous")) == (["ambiguous"], 1)
    assert (life.count("cold"), life.count("feedback")) == (2, 2)
    check(life.archive, referee(life))


def test_a_reference_that_the_archive_does_not_have_goes_on_waiting(life: OldLife) -> None:
    life.come_to_now()
    life.say(by_reference(7, 1.0, heard_ms=life.real_ms()))
    life.settle()

    assert life.client.hlen(keys.held(0)) == 1
    assert life.client.hvals(keys.sought(0))[0], "it was asked for"


def half_archived(life: OldLife) -> int:
    """Decision 1 of 25 hours ago is archived, and what was said of it since then is not."""
    at_ms = life.real_ms() - 25 * HOUR_MS
    life.tell_at([(at_ms, outcome(1, at_ms=at_ms)), (at_ms, told(1, 0.25, at_ms, heard_ms=at_ms))])
    life.take()
    heard_ms = at_ms + 23 * HOUR_MS
    said = told(1, 0.5, at_ms, heard_ms=heard_ms, revision=1, kind=FeedbackKind.JUDGE)
    life.tell_at(
        [(heard_ms, told(1, 0.75, at_ms, heard_ms=heard_ms, revision=1)), (heard_ms, said)]
    )
    life.say(told(1, 1.0, at_ms, heard_ms=life.real_ms(), revision=2))
    return at_ms


def test_what_is_not_archived_yet_is_read_from_the_stream(life: OldLife) -> None:
    """With no archiver for hours, a word is folded at the first look."""
    at_ms = half_archived(life)

    assert life.thaw() == 1
    life.fold()

    assert (life.client.hlen(keys.cold(0)), life.reasons()) == (0, [])
    check(life.archive, referee(life))
    life.say(told(1, None, at_ms, heard_ms=life.real_ms(), revision=3))
    assert life.thaw() == 1, "what was put back is in the stream as well, and is heard once"
    life.fold()
    check(life.archive, referee(life))
    assert life.audit().equal
    life.take()
    assert life.audit().equal


def test_before_there_is_any_file_the_stream_has_it_all(life: OldLife) -> None:
    at_ms = life.real_ms() - 3 * DAY_MS
    life.tell_at([(at_ms, outcome(1, at_ms=at_ms)), (at_ms, told(1, 0.25, at_ms, heard_ms=at_ms))])
    life.say(told(1, 1.0, at_ms, heard_ms=life.real_ms(), revision=1))

    assert (life.files(), life.thaw()) == ([], 1)
    life.fold()

    check(life.archive, referee(life))


def test_a_stream_that_was_trimmed_past_the_archive_says_nothing(life: OldLife) -> None:
    half_archived(life)
    archived = life.client.hget(keys.meta(0), "archived")
    first = life.client.xrange(keys.stream(0), min=b"(" + archived, count=1)[0][0]
    life.client.xdel(keys.stream(0), first)
    rows = life.rows()

    assert (life.thaw(), life.client.hlen(keys.cold(0)), life.reasons()) == (0, 1, [])

    life.take()
    life.settle()
    assert life.files()[-1].is_base
    assert (life.rows(), life.reasons()) == (rows, [UNKNOWN])


def test_a_long_stream_is_left_to_the_archive(
    life: OldLife, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "MOST_BYTES", 100)
    half_archived(life)

    assert (life.thaw(), life.client.hlen(keys.cold(0)), life.reasons()) == (0, 1, [])

    life.take()
    life.settle()
    assert life.client.hlen(keys.cold(0)) == 0
    check(life.archive, referee(life))
    assert life.audit().equal


def test_a_word_that_others_bring_with_an_old_outcome_is_known_when_it_is_corrected(
    life: OldLife,
) -> None:
    """It is folded as it comes, however old the decision is."""
    at_ms = life.real_ms() - 5 * DAY_MS
    life.come_to_now()
    others = int(Flag.USAGE_KNOWN | Flag.FINAL | Flag.INGESTED)
    said = (FeedbackKind.HUMAN, 0.5)
    life.say(outcome(1, at_ms=at_ms, flags=others, said=said, event=bytes(16)))
    life.say(told(1, 1.0, at_ms, heard_ms=life.real_ms(), revision=1))
    assert life.thaw() == 0

    life.take()
    life.settle()

    assert (life.client.hlen(keys.cold(0)), life.reasons()) == (0, [])
    check(life.archive, referee(life))
    assert life.audit().equal
    life.say(told(1, 0.25, at_ms, heard_ms=life.real_ms(), revision=2))
    assert life.thaw() == 1
    life.fold()
    check(life.archive, referee(life))


def test_an_archive_that_moves_on_meanwhile_is_asked_again(
    life: OldLife, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_ms = life.real_ms() - 5 * DAY_MS
    life.tell_at([(at_ms, outcome(1, at_ms=at_ms))])
    life.come_to_now()
    life.say(told(1, 1.0, at_ms, heard_ms=life.real_ms()))
    looked_up = thaw_module.look_up

    def late(*arguments: Any, **more: Any) -> Any:
        found = looked_up(*arguments, **more)
        life.take()
        return found

    monkeypatch.setattr(thaw_module, "look_up", late)
    assert life.thaw() == 0
    monkeypatch.setattr(thaw_module, "look_up", looked_up)
    assert life.thaw() == 1


def test_without_an_archive_it_is_a_dead_letter_that_says_so(life: OldLife) -> None:
    at_ms = life.real_ms() - 5 * DAY_MS
    life.tell_at([(at_ms, outcome(1, at_ms=at_ms))])
    life.archive.skip()
    life.say(told(1, 1.0, at_ms, heard_ms=life.real_ms()))

    assert life.thawing.give_up(life.client, 1) == 1

    assert (life.reasons(), life.count("unknown_old")) == ([UNKNOWN], 1)
    assert life.client.hlen(keys.cold(0)) == 0


def test_what_was_not_kept_is_never_guessed(life: OldLife) -> None:
    """The archive was off while something may have been said."""
    at_ms = life.real_ms() - 5 * DAY_MS
    life.tell_at([(at_ms, outcome(1, at_ms=at_ms)), (at_ms, told(1, 0.5, at_ms, heard_ms=at_ms))])
    life.archive.skip()
    life.prune()
    life.come_to_now()
    life.say(told(1, 1.0, at_ms, heard_ms=life.real_ms(), revision=1))
    rows = life.rows()

    assert life.thaw() == 0

    life.fold()
    assert (life.reasons(), life.rows()) == ([UNKNOWN], rows)


def test_a_damaged_file_without_an_index_is_not_known(life: OldLife) -> None:
    at_ms = life.real_ms() - 5 * DAY_MS
    life.tell_at([(at_ms, outcome(1, at_ms=at_ms))])
    life.come_to_now()
    for file in life.files():
        file.index_path.unlink()
        file.path.write_bytes(b"not what was written")
    life.say(told(1, 1.0, at_ms, heard_ms=life.real_ms()))

    assert life.thaw() == 0
    assert life.reasons() == [UNKNOWN]


def test_what_the_archive_began_anew_from_knows_as_much_as_before(life: OldLife) -> None:
    at_ms = life.real_ms() - 20 * DAY_MS
    life.tell_at([(at_ms, outcome(1, at_ms=at_ms)), (at_ms, told(1, 0.5, at_ms, heard_ms=at_ms))])
    life.take()
    life.tell_at([(at_ms + 3 * DAY_MS, outcome(2, at_ms=at_ms + 3 * DAY_MS))])
    life.come_to_now()
    before = len(life.files())
    assert prune(life.archive, Keep(1, 1 << 40), now_ms=life.real_ms()) > 0
    assert life.files()[0].is_base
    assert len(life.files()) <= before
    life.say(told(1, 1.0, at_ms, heard_ms=life.real_ms(), revision=1))
    life.settle()

    assert (life.client.hlen(keys.cold(0)), life.reasons()) == (0, [])
    assert life.count("feedback") == 2
    assert life.audit().equal


def test_a_base_that_was_made_of_a_store_knows_what_was_young_there(life: OldLife) -> None:
    """What was said before of a decision that was old by then, nobody knows."""
    based_ms = life.real_ms() - 10 * DAY_MS
    made = {1: based_ms - 3 * DAY_MS, 2: based_ms - HOUR_MS, 3: based_ms + HOUR_MS}
    past = [(at, outcome(n, at_ms=at)) for n, at in made.items()]
    past += [(at + 9, told(n, 0.5, at, heard_ms=at + 9)) for n, at in made.items()]
    life.tell_at([one for one in past if one[0] < based_ms])
    life.client.xtrim(keys.stream(0), maxlen=0)
    life.take()
    assert life.files()[0].is_base
    life.tell_at([one for one in past if one[0] > based_ms])
    life.come_to_now()
    for n, at_ms in made.items():
        life.say(told(n, 1.0, at_ms, heard_ms=life.real_ms(), revision=1))

    assert life.thaw() == 2
    life.settle()

    assert life.reasons() == [UNKNOWN]
    assert (life.count("unknown_old"), life.client.hlen(keys.cold(0))) == (1, 0)
    assert life.audit().equal
    rewarded = {n: life.client.hget(keys.thawed(0), n.to_bytes(16, "big")) for n in made}
    assert [row is not None for row in rewarded.values()] == [False, True, True]


def test_beyond_a_bound_the_oldest_become_dead_letters(
    life: OldLife, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thaw_module, "MOST_COLD", 3)
    at_ms = life.real_ms() - 5 * DAY_MS
    life.tell_at([(at_ms, outcome(1, at_ms=at_ms))])
    life.come_to_now()
    for k in range(5):
        life.say(told(1, k / 8, at_ms, heard_ms=life.real_ms() + k))

    assert life.thaw() == 3

    assert (len(life.reasons()), life.count("unknown_old")) == (2, 2)


def test_an_outcome_that_came_late_with_a_word_is_counted_once(life: OldLife) -> None:
    at_ms = life.real_ms() - 5 * DAY_MS
    life.come_to_now()
    said = (FeedbackKind.DERIVED, 1.0)
    life.say(outcome(1, at_ms=at_ms, flags=FINAL, said=said, event=b"e" * 16))
    life.settle()

    assert (life.count("cold"), life.count("outcomes"), life.count("feedback")) == (1, 2, 1)
    check(life.archive, referee(life))
    assert life.audit().equal


def rated(n: int, value: float, at_ms: int, heard_ms: int) -> bytes:
    body = bytearray(token(0, at_ms=at_ms))
    place = TOKEN.fields["nonce"][1]  # type: ignore[index]
    body[place : place + 16] = n.to_bytes(16, "big")
    body[-4:] = RATED.to_bytes(4, "little")
    event = heard_ms.to_bytes(6, "big") + n.to_bytes(4, "big") + bytes(6)
    return events.feedback(
        bytes(body), kind=FeedbackKind.HUMAN, value=value, revision=0, event=event
    )


def ranked(life: OldLife) -> Rebuilt:
    """As `referee`, with the key of the raters' ranks."""
    files = [archive_files.read(file).as_entries() for file in life.files()]
    last = files[-1][-1][0]
    found = life.archive.entries(0, last, life.shard.mark)
    out = Rebuilt(raters_key=raters_key(life.client))
    for entries in (*files, [(entry, {b"f": frame}) for entry, frame in found.items()]):
        out.fold(entries)
    return out


@pytest.mark.parametrize("seed", range(3))
def test_of_a_rater_who_speaks_late_those_of_the_lowest_ranks_count(
    life: OldLife, seed: int
) -> None:
    dice = random.Random(seed)
    day_ms = (life.real_ms() // DAY_MS - 5) * DAY_MS
    made = {n: day_ms + dice.randint(0, DAY_MS - 1) for n in range(1, 13)}
    early = [(at, rated(n, dice.random(), at, at)) for n, at in made.items() if n % 2]
    life.tell_at(early)
    life.come_to_now()
    for n in dice.sample([n for n in made if not n % 2], 6):
        life.say(rated(n, dice.random(), made[n], life.real_ms()))
        life.thaw()
        life.fold()

    assert (life.count("cold"), life.client.hlen(keys.cold(0))) == (6, 0)
    assert said_in_store(life.client) == {}, "none of it lies where young ones do"
    check(life.archive, ranked(life))
    assert life.audit().equal, life.audit().difference


@pytest.mark.parametrize("seed", range(4))
def test_who_is_young_displaces_an_old_one_of_the_same_day_by_its_latest_word(
    life: OldLife, seed: int
) -> None:
    dice, now_ms = random.Random(seed), life.real_ms()
    day_ms = (now_ms // DAY_MS - 1) * DAY_MS
    life.begin(12 + now_ms % DAY_MS // HOUR_MS)  # old: what was decided before noon, yesterday
    old = {n: day_ms + dice.randint(0, 11 * HOUR_MS) for n in range(1, 7)}
    young = {n: day_ms + dice.randint(14 * HOUR_MS, DAY_MS - 1) for n in range(7, 20)}
    life.tell_at([(at, rated(n, dice.random(), at, at)) for n, at in old.items() if n < 5])
    life.come_to_now()
    for n in (1, 2, 3, 4, 5, 6, 1, 2):
        life.say(rated(n, dice.random(), old[n], life.real_ms()))
        life.thaw()
        life.fold()
    assert life.client.hlen(keys.cold(0)) == 0
    if seed % 2:
        life.client.delete(keys.thawed(0))  # as after an hour

    for n, at_ms in young.items():
        life.say(rated(n, dice.random(), at_ms, life.real_ms()))

    check(life.archive, ranked(life))
    assert life.count("not_counted") > 5
    assert life.audit().equal, life.audit().difference
