"""Money of a budget is granted before it is spent: never twice, and none of it gets lost."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry import keys
from telemetry.allowances import BudgetAllowance, BudgetReservation
from telemetry.budget_accounts import MAX_AMOUNT, BudgetAccounts, BudgetPeriod, TakeAnswer
from telemetry.embedded import PID_FILE, PrivateServer
from telemetry.store import Address, connect

PERIOD = BudgetPeriod(digest=7, start_s=1_700_000_000, length_s=3600)
LEASE_S = 10.0


class Holder:
    """An allowance and its line to the account, with a clock that is handed in."""

    def __init__(self, accounts: BudgetAccounts, name: str, limit: int = 1000, **more: Any) -> None:
        self.accounts = accounts
        more = {"lease": 100, "lease_s": LEASE_S, **more}
        self.own = BudgetAllowance(name, limit=limit, **more)
        self.now_s = 0.0
        self.late: list[Any] = []  # words that no reply came to
        self.open: list[BudgetReservation] = []

    @property
    def has(self) -> int:
        return self.own.spent + self.own.reserved + self.own.free

    def say(self, amount: int = 0, *, lost: str = "") -> TakeAnswer | None:
        """Say what there is to say, for a call of an amount or for none."""
        return self._carry(self.own.ask(self.now_s, amount), lost)

    def leave(self) -> None:
        for reservation in self.open:
            self.own.settle(reservation, 0)
        self._carry(self.own.leave(self.now_s), "")

    def _carry(self, asked: Any, lost: str) -> TakeAnswer | None:
        answer = None
        if lost != "word":
            answer = self.accounts.take(PERIOD, self.own.holder, asked)
        if lost:
            self.late.append(asked)
            self.own.miss(asked, self.now_s)
            return None
        assert answer is not None
        reservation = self.own.hear(asked, answer, self.now_s)
        self.open += [reservation] if reservation is not None else []
        return answer

    def spend(self, amount: int, actual: int | None = None) -> bool:
        """Make a call, at the store where need be; return whether it was let through."""
        reservation = self.own.reserve(amount, self.now_s)
        if reservation is None:
            self.say(amount)
            reservation = self.open.pop() if self.open else None
        if reservation is None:
            return False
        self.own.settle(reservation, amount if actual is None else actual)
        return True


@pytest.fixture
def accounts(client: Any) -> BudgetAccounts:
    return BudgetAccounts(client)


def pretend_restart(client: Any, n: int = 1) -> None:
    """Have the account know another server than the one that it lies on."""
    client.hset(PERIOD.keys[0], "run", f"another-{n}")


def end_recovery(client: Any) -> None:
    client.hset(PERIOD.keys[0], "until", 0)


# -- the account --------------------------------------------------------------------------------


def test_a_grant_is_a_half_of_a_fair_share_or_exactly_what_a_call_needs(
    accounts: BudgetAccounts,
) -> None:
    first, second = Holder(accounts, "a", lease=900), Holder(accounts, "b", lease=900)

    assert first.say() == TakeAnswer(500, 500, 1, 0.1, False)
    assert second.say() == TakeAnswer(125, 375, 2, 0.1, False)
    assert second.say(125 + 300).granted == 300
    assert second.say(125 + 76).granted == 0
    assert accounts.read(PERIOD).debited == 500 + 125 + 300


def test_what_a_lost_reply_granted_returns_with_the_next_word(accounts: BudgetAccounts) -> None:
    one = Holder(accounts, "a")
    one.say(lost="reply")
    assert (accounts.read(PERIOD).debited, one.has) == (100, 0)

    one.say()

    assert accounts.read(PERIOD).debited == one.has == 100


def test_a_word_that_comes_twice_or_late_changes_nothing(accounts: BudgetAccounts) -> None:
    one = Holder(accounts, "a")
    one.say(lost="word")
    one.say()
    before = accounts.read(PERIOD)

    for _ in range(2):
        assert accounts.take(PERIOD, "a", one.late[0]).is_old
    assert accounts.read(PERIOD) == before


def test_a_new_life_under_an_old_name_is_granted_nothing(accounts: BudgetAccounts) -> None:
    one = Holder(accounts, "a")
    for _ in range(3):
        one.say()
    again = Holder(accounts, "a")

    assert not again.spend(1)
    assert accounts.read(PERIOD).takes == {"a": 100}


def test_large_amounts_are_exact_and_larger_ones_refused(accounts: BudgetAccounts) -> None:
    one = Holder(accounts, "a", limit=MAX_AMOUNT, lease=MAX_AMOUNT)

    assert one.say(MAX_AMOUNT - 1).granted == MAX_AMOUNT - 1
    assert accounts.read(PERIOD).debited == MAX_AMOUNT - 1
    with pytest.raises(ValueError, match="9007199254740992"):
        Holder(accounts, "b", limit=MAX_AMOUNT + 1).say()


def test_an_account_lies_in_one_slot_and_ends_by_itself(
    accounts: BudgetAccounts, client: Any
) -> None:
    Holder(accounts, "a").say()

    assert sorted(client.keys()) == sorted(name.encode() for name in PERIOD.keys)
    for name in PERIOD.keys:
        assert name.startswith(f"{{{keys.prefix()}:budget:{7:016x}}}:1700000000")
        assert 3 * 3600_000 < client.pttl(name) <= 6 * 3600_000


def test_a_dead_holders_difference_returns_once_and_a_living_ones_never(
    accounts: BudgetAccounts, client: Any
) -> None:
    one = Holder(accounts, "a")
    one.spend(60)

    assert accounts.bury(PERIOD, "a", spent=60) is None
    client.zadd(PERIOD.keys[1], {"a": 1})  # its lease is long over
    assert accounts.bury(PERIOD, "a", spent=60) == 100
    assert accounts.bury(PERIOD, "a", spent=60) == 0
    assert accounts.bury(PERIOD, "forgotten", spent=30) == -30
    assert accounts.read(PERIOD).takes == {"a": 60, "forgotten": 30}
    assert accounts.read(PERIOD).debited == 90


def test_who_was_buried_alive_restores_what_it_took(accounts: BudgetAccounts, client: Any) -> None:
    one = Holder(accounts, "a")
    one.spend(60)
    client.zadd(PERIOD.keys[1], {"a": 1})
    accounts.bury(PERIOD, "a", spent=0)

    one.say()

    assert accounts.read(PERIOD).debited == one.has >= 60


# -- a store that forgets -----------------------------------------------------------------------


def test_a_server_that_was_killed_grants_nothing_for_a_lease(state_dir: Any) -> None:
    with PrivateServer(state_dir / "store") as server:
        client = connect(Address(f"unix://{server.socket_path}"))
        accounts = BudgetAccounts(client)
        one, other = (Holder(accounts, name, lease_s=0.4) for name in "ab")
        one.say()
        for _ in range(2):
            pid = int((server.directory / PID_FILE).read_text())
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            assert server.revive()
            client.connection_pool.disconnect()
            answer = other.say()
            assert (answer.granted, answer.is_recovering) == (0, True)
            assert 0.3 < answer.again_s <= 0.4
        assert one.say().is_recovering
        assert accounts.read(PERIOD).debited == one.has == 100

        client.hset(PERIOD.keys[0], "until", 0)
        other.now_s += 1
        assert other.say(50).granted == 50
        client.close()


def test_a_second_restart_within_a_lease_begins_the_wait_anew(
    accounts: BudgetAccounts, client: Any
) -> None:
    one = Holder(accounts, "a")
    one.say()
    pretend_restart(client)
    one.say()
    began = int(client.hget(PERIOD.keys[0], "until"))
    client.hset(PERIOD.keys[0], "until", began - 9_000)

    pretend_restart(client, 2)
    one.say()

    assert int(client.hget(PERIOD.keys[0], "until")) >= began


def test_a_server_that_stood_still_at_the_end_of_the_wait_waits_on(
    accounts: BudgetAccounts, client: Any
) -> None:
    one, other = Holder(accounts, "a"), Holder(accounts, "b")
    one.say()
    pretend_restart(client)
    other.say()
    now_ms = int(float(client.time()[0]) * 1000)

    def said_before(wait_over_s: float, heard_s: float) -> None:
        over, heard = (round(now_ms - s * 1000) for s in (wait_over_s, heard_s))
        client.hset(PERIOD.keys[0], mapping={"until": over, "heard": heard})

    said_before(0.1, 5.0)  # seconds; a lease has ten
    answer = other.say(50)
    assert (answer.granted, answer.is_recovering, 4 < answer.again_s <= 5) == (0, True, True)
    said_before(0.1, 1.5)
    other.now_s += 1
    answer = other.say(50)
    assert not answer.is_recovering


def test_holders_are_heard_often_while_nothing_is_granted(
    accounts: BudgetAccounts, client: Any
) -> None:
    one = Holder(accounts, "a")
    one.say()
    pretend_restart(client)
    one.say()

    assert one.own.due_s(one.now_s) == pytest.approx(one.now_s + one.own.lease_s / 8)


def test_who_leaves_by_the_word_that_finds_the_store_restarted_is_heard_until_it_grants(
    accounts: BudgetAccounts, client: Any
) -> None:
    one = Holder(accounts, "a")
    one.spend(10)
    for _ in range(2):
        one.now_s += LEASE_S / 2
        one.say()
    pretend_restart(client)
    one.now_s += LEASE_S / 2
    answer = one.say()

    assert answer is not None
    assert (answer.is_recovering, answer.n_live) == (True, 0)
    assert one.own.due_s(one.now_s) == pytest.approx(one.now_s + LEASE_S / 8)
    end_recovery(client)
    one.now_s += LEASE_S
    assert one.say() == TakeAnswer(0, 990, 0, 0, False)
    assert one.own.due_s(one.now_s) == math.inf


def test_a_restart_without_holders_on_record_holds_nobody_up(
    accounts: BudgetAccounts, client: Any
) -> None:
    one = Holder(accounts, "a")
    one.spend(60)
    one.leave()
    pretend_restart(client)

    assert Holder(accounts, "b").say() == TakeAnswer(100, 840, 1, 0, False)


def test_a_server_whose_clock_is_ahead_waits_all_the_same(
    accounts: BudgetAccounts, client: Any
) -> None:
    Holder(accounts, "a").say()
    client.zadd(PERIOD.keys[1], {"a": 1})  # by its clock the lease is long over
    pretend_restart(client)

    assert Holder(accounts, "b").say() == TakeAnswer(0, 900, 1, 10.0, True)


def test_an_account_that_is_gone_recovers_as_soon_as_one_restates(
    accounts: BudgetAccounts, client: Any
) -> None:
    one = Holder(accounts, "a")
    one.say()
    client.flushall()

    assert one.say(200) == TakeAnswer(0, 900, 1, 10.0, True)
    assert not one.open
    assert accounts.read(PERIOD).debited == one.has == 100


def test_who_paused_longer_than_its_lease_neither_spends_nor_restates_what_it_held(
    accounts: BudgetAccounts, client: Any
) -> None:
    one, other = Holder(accounts, "a", lease=400), Holder(accounts, "b", lease=900)
    one.spend(60)
    client.flushall()  # the store forgot it, and recovered, while it was paused
    other.say()
    one.now_s += LEASE_S

    assert one.own.reserve(1, one.now_s) is None
    asked = one.own.ask(one.now_s)
    assert asked is not None
    assert asked.mine == 60


# -- the holder ---------------------------------------------------------------------------------


def test_a_lease_ends_earlier_here_than_at_the_store(accounts: BudgetAccounts) -> None:
    one = Holder(accounts, "a")
    one.say()

    assert one.own.reserve(10, LEASE_S * 0.93) is not None
    assert one.own.reserve(10, LEASE_S * 0.94) is None


def test_what_is_not_used_goes_back_before_the_lease_ends_and_then_all_is_quiet(
    accounts: BudgetAccounts,
) -> None:
    one = Holder(accounts, "a")
    one.spend(10)
    ends = []
    while (due := one.own.due_s(one.now_s)) < math.inf:
        one.now_s = max(due, one.now_s)
        one.say()
        ends.append((one.now_s, accounts.read(PERIOD).debited))

    assert ends[0] == (5.0, 30)  # twice what half a lease used
    assert ends[1] == (10.0, 30)
    assert ends[2] == (15.0, 10)
    assert accounts.read(PERIOD).n_live == 0
    assert one.spend(100)


def test_what_settles_lower_is_spent_here_first(accounts: BudgetAccounts) -> None:
    one = Holder(accounts, "a", limit=10)
    assert one.spend(10, 1)
    words = one.own._seq

    assert one.own.reserve(9, one.now_s) is not None
    assert one.own._seq == words


def test_leftovers_of_two_holders_pay_for_one_call(accounts: BudgetAccounts) -> None:
    one, other = Holder(accounts, "a", limit=10), Holder(accounts, "b", limit=10)
    one.spend(10, 4)
    assert not other.spend(5)
    assert not one.spend(7)  # six are left: given up, for whom they may do
    one.now_s = one.own.due_s(one.now_s)
    one.say()
    other.now_s += 1

    assert other.spend(5)


def test_a_call_that_cannot_fit_is_refused_without_a_question(accounts: BudgetAccounts) -> None:
    one = Holder(accounts, "a", limit=10)
    assert not one.spend(11)

    assert not one.own.may_ask(11, one.now_s + 0.05)
    assert one.own.may_ask(10, one.now_s + 0.05)
    assert one.own.may_ask(11, one.now_s + 0.11)


def test_under_a_lower_limit_what_is_free_is_granted_anew(accounts: BudgetAccounts) -> None:
    one = Holder(accounts, "a")
    held = one.own.reserve(0, 0.0)
    one.spend(60)
    one.own.set_limit(50, lease=50)

    assert one.own.reserve(1, 0.0) is None
    assert one.own.due_s(0.0) == 0.0
    assert one.say().free == -10
    assert not one.spend(1)
    assert held is not None
    one.own.set_limit(100, lease=50)
    one.now_s += 1
    assert one.spend(40)
    assert not one.spend(1)


def test_a_grant_under_a_limit_that_was_lowered_meanwhile_is_not_spent(
    accounts: BudgetAccounts,
) -> None:
    one = Holder(accounts, "a")
    asked = one.own.ask(0.0, 80)
    assert asked is not None
    answer = accounts.take(PERIOD, "a", asked)
    one.own.set_limit(50, lease=50)

    assert one.own.hear(asked, answer, 0.0) is None
    assert one.has == 0
    one.say()
    assert accounts.read(PERIOD).debited == 0


@pytest.mark.parametrize(("is_hard", "served"), [(True, 0), (False, 3)])
def test_without_a_store_a_soft_budget_serves_one_lease_more_and_tells_it(
    accounts: BudgetAccounts, is_hard: bool, served: int
) -> None:
    one = Holder(accounts, "a", is_hard=is_hard)
    assert one.own.overdraw(30) is None  # the store was not away
    one.say(lost="word")

    got = [one.own.overdraw(30) for _ in range(5)]

    assert sum(each is not None for each in got) == served
    one.now_s += 1
    one.say()
    assert accounts.read(PERIOD).debited == one.has == 30 * served + one.own.free


def test_what_was_served_while_a_word_was_late_is_paid_from_what_it_granted(
    accounts: BudgetAccounts,
) -> None:
    one = Holder(accounts, "a", limit=100, is_hard=False)
    asked = one.own.ask(0.0, 60)
    assert asked is not None
    answer = accounts.take(PERIOD, "a", asked)
    extra = [one.own.overdraw(50, is_late=True) for _ in range(3)]
    assert extra[0] is not None
    assert extra[1] is not None
    assert extra[2] is None  # beyond a lease

    reservation = one.own.hear(asked, answer, 0.0)

    assert reservation is not None
    assert (one.own.reserved, one.own.free, one.own.extra) == (160, 0, 100)
    assert one.own.due_s(0.0) == 0.0
    assert one.say() is not None
    assert (accounts.read(PERIOD).debited, one.own.extra) == (160, 0)


def test_what_nothing_was_reserved_for_is_charged_and_told_soon(accounts: BudgetAccounts) -> None:
    one = Holder(accounts, "a")
    one.say()
    one.own.charge(0)
    assert one.own.due_s(0.0) > 0
    one.own.charge(1100)

    assert one.own.due_s(0.0) == 0.0
    assert one.say() == TakeAnswer(0, -100, 1, 0.0, False)
    assert accounts.read(PERIOD).debited == one.has == 1100
    assert one.own.overrun == 1000
    with pytest.raises(ValueError, match="-1"):
        one.own.charge(-1)


def test_a_later_allowance_goes_on_where_one_left_off(accounts: BudgetAccounts) -> None:
    one = Holder(accounts, "a")
    one.spend(30)
    one.leave()
    assert one.own.is_at_rest
    later = Holder(accounts, "a", spent=one.own.spent, seq=one.own.seq)

    assert later.spend(50)
    assert accounts.read(PERIOD).debited == later.has
    assert later.own.spent == 80


def test_a_call_that_came_to_more_is_told_and_paid_from_what_is_free(
    accounts: BudgetAccounts,
) -> None:
    one = Holder(accounts, "a")
    one.spend(50, 170)

    assert (one.own.free, one.own.overrun) == (0, 20)
    one.say()
    assert accounts.read(PERIOD).debited == one.has >= 170


def test_a_reservation_settles_once_and_in_no_way_below_nothing(accounts: BudgetAccounts) -> None:
    one = Holder(accounts, "a")
    one.say()
    reservation = one.own.reserve(50, 0.0)
    assert reservation is not None
    with pytest.raises(ValueError, match="-1"):
        one.own.settle(reservation, -1)
    for _ in range(2):
        one.own.settle(reservation, 20)

    assert (one.own.spent, one.own.reserved, one.own.free) == (20, 0, 80)
    with pytest.raises(ValueError, match="-5"):
        one.own.reserve(-5, 0.0)


# -- whatever happens ---------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["call", "call", "settle", "say", "lose", "lose", "late", "pause", "again"]
        ),
        st.integers(0, 2),  # who
        st.integers(0, 120),  # how much
    ),
    max_size=40,
)


@pytest.fixture(scope="module")
def shared() -> Iterator[Any]:
    with fakeredis.FakeRedis(server=fakeredis.FakeServer(server_type="valkey")) as client:
        yield client


def step(holders: list[Holder], accounts: BudgetAccounts, what: str, who: int, n: int) -> None:
    one = holders[who]
    if what == "call":
        reservation = one.own.reserve(n, one.now_s)
        one.open += [reservation] if reservation is not None else []
        if reservation is None and one.own.may_ask(n, one.now_s):
            one.say(n)
    elif what == "settle" and one.open:
        reservation = one.open.pop(0)
        one.own.settle(reservation, min(n, reservation.amount))
    elif what == "say":
        one.say()
    elif what == "lose":
        one.say(n, lost="reply" if n % 2 else "word")
    elif what == "late" and one.late:
        if one.late[-1].seq == one.own._seq:  # it comes before the next one
            accounts.take(PERIOD, one.own.holder, one.late[-1])
        else:
            assert accounts.take(PERIOD, one.own.holder, one.late[-1]).is_old
    elif what == "pause":
        one.now_s += n / 10
    elif what == "again":  # one more life
        one.leave()
        name = f"{one.own.holder}+"
        holders.append(one)
        holders[who] = Holder(accounts, name, one.own.limit)


@settings(max_examples=25)
@given(STEPS)
def test_nothing_is_granted_twice_and_in_the_end_only_what_was_spent_is_gone(
    shared: Any, steps: list[tuple[str, int, int]]
) -> None:
    shared.flushall()
    accounts = BudgetAccounts(shared)
    holders = [Holder(accounts, name, limit=300) for name in "abc"]

    for what, who, n in steps:
        step(holders, accounts, what, who, n)
        read = accounts.read(PERIOD)
        assert sum(one.has for one in holders) <= read.debited <= 300
        assert read.debited == sum(read.takes.values())
    for one in holders:
        one.leave()

    assert accounts.read(PERIOD).debited == sum(one.own.spent for one in holders)


@settings(max_examples=25)
@given(STEPS, STEPS, STEPS, st.permutations(range(3)))
def test_a_store_that_forgot_grants_nothing_twice(
    shared: Any,
    before: list[tuple[str, int, int]],
    forgotten: list[tuple[str, int, int]],
    after: list[tuple[str, int, int]],
    order: list[int],
) -> None:
    """All holders are on record by then; what was forgotten they say again, in any order."""
    shared.flushall()
    accounts = BudgetAccounts(shared)
    holders = [Holder(accounts, name, limit=300) for name in "abc"]
    for what, who, n in before:
        step(holders, accounts, what, who, n)
    for one in holders[:3]:
        one.say()
    account, live = PERIOD.keys
    fields, ends = shared.hgetall(account), shared.zrange(live, 0, -1, withscores=True)
    for what, who, n in forgotten:
        if what != "again":
            step(holders, accounts, what, who, n)

    shared.flushall()
    shared.hset(account, mapping=fields)
    shared.zadd(live, dict(ends))
    pretend_restart(shared)
    for who in order:
        answer = holders[who].say()
        assert (answer.granted, answer.is_recovering) == (0, True)
    end_recovery(shared)
    for what, who, n in after:
        step(holders, accounts, what, who, n)
        read = accounts.read(PERIOD)
        assert sum(one.has for one in holders) <= min(read.debited, 300)
    for one in holders[:3]:
        one.leave()

    assert sum(one.own.spent for one in holders) <= 300
