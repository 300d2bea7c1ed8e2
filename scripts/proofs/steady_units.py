"""Whose calls belong together, and whether their endpoint changed without a reason. Pure.

A change has a reason where the call itself forbids the unit's endpoint, where that failed, or
where the unit's draw ended in one of the two ways that the law knows; the answer names it. A word
alone is no reason: a call that went elsewhere in a failure's name is a fault where nothing failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct, field

DAY_S, TEN_MINUTES_S = 86_400, 600
ENDINGS = ("moved for gain", "moved from worse")
"""What `x-router-reason` says of the call at which a stored draw ended."""
ENDING_WORDS = {"gain": ENDINGS[0], "dominated": ENDINGS[1]}
"""The same, by what an explanation calls it: where that call failed over, the header says that."""
AWAY = ("failover", "only one allowed")
"""What it says of a call that went elsewhere while the draw stays."""


class SteadyCall(Struct, frozen=True):
    """An answered call."""

    process: int
    sent_at: float  # monotonic seconds
    got_at: float
    endpoint: str
    task: str
    reason: str
    attempts: int = 1
    is_constrained: bool = False  # by what it asks for itself, or its session did
    continues: bool = False  # a conversation of the unit, whose endpoint it may keep
    ended: str = ""  # by which ending, where the decision says so beside its reason
    told: str = ""  # what was sent, for whoever looks into it

    @property
    def ending(self) -> str:
        """By what the stored draw ended at this call; empty of most."""
        return self.reason if self.reason in ENDINGS else ENDING_WORDS.get(self.ended, "")


class UnitFound(Struct):
    """What became of units."""

    n_units: int = 0
    n_calls: int = 0
    changes: Counter[str] = field(default_factory=Counter)  # with a reason, by it
    faults: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: UnitFound) -> None:
        """Take in what became of others."""
        self.n_units += other.n_units
        self.n_calls += other.n_calls
        self.changes += other.changes
        self.faults += other.faults


Down = Callable[[str, SteadyCall], bool]
"""Whether an endpoint was down shortly before, or during, a call."""


def slot_of(kind: str, sent_at_s: float, got_at_s: float) -> int | None:
    """Return the slot in which a call was made; None where it may have been either of two.

    Args:
        kind: `session`, `user` or `none`.
        sent_at_s: epoch seconds.
    """
    if kind == "session":
        return 0
    span_s = DAY_S if kind == "user" else TEN_MINUTES_S
    first, last = int(sent_at_s // span_s), int(got_at_s // span_s)
    return first if first == last else None


def judge_unit(name: str, task: str, calls: Sequence[SteadyCall], down: Down) -> UnitFound:
    """Return what became of one unit.

    Args:
        name: of the unit, for whoever looks into it.
        task: that all its calls are of.
    """
    found = UnitFound(1, len(calls))
    ordered = sorted(calls, key=lambda call: call.sent_at)

    def fault(what: str, call: SteadyCall) -> None:
        shown = {"sent": call.told, "process": call.process, "reason": call.reason}
        found.faults.append({"fault": what, "unit": name, "endpoint": call.endpoint, **shown})

    for call in ordered:
        if call.task != task:
            fault(f"task {call.task} and not {task}", call)
    endings = [call for call in ordered if call.ending]
    for call in endings[1:]:
        fault("its draw ended twice", call)
    draws = _UnitDraws(ordered, endings[0] if endings else None)
    if endings:
        found.changes[endings[0].ending] += 1
    for call in ordered:
        if call in endings or draws.has(call):
            continue
        if call.reason not in AWAY:
            fault(f"no reason to leave {draws.first}", call)
        elif call.is_constrained:
            found.changes["constraint of the call"] += 1
        elif call.attempts > 1 or any(down(one, call) for one in (draws.first, draws.second)):
            found.changes["failure"] += 1
        else:
            fault(f"nothing failed at {draws.first}", call)
    return found


class _UnitDraws:
    """What a unit drew first, and after that ended, as its calls tell.

    Of a draw that ended at one process others learn with a call of the unit. Once a process has
    moved it does not go back, but for conversations, which keep what they began with.
    """

    def __init__(self, ordered: Sequence[SteadyCall], ended: SteadyCall | None) -> None:
        self._ended = ended
        at_home = [call for call in ordered if call.reason not in AWAY and call is not ended]
        self.first = self.second = (at_home or ordered)[0].endpoint
        self._moved_at: dict[int, float] = {}  # by process: since when it must not go back
        if ended is not None:
            before = [call for call in at_home if call.sent_at < ended.sent_at]
            after = [call for call in at_home if call.process == ended.process]
            after = [call for call in after if call.sent_at >= ended.got_at]
            self.first = before[0].endpoint if before else self.first
            is_told = ended.reason not in AWAY or not after
            self.second = ended.endpoint if is_told else after[0].endpoint
            self._moved_at[ended.process] = ended.got_at

    def has(self, call: SteadyCall) -> bool:
        """Return whether a call is where the draw of its moment has it; calls come in order."""
        ended = self._ended
        if ended is None:
            return call.endpoint == self.first
        if call.endpoint == self.second and call.got_at >= ended.sent_at:
            if not call.continues and call.reason not in AWAY:
                self._moved_at.setdefault(call.process, call.got_at)
            return True
        if call.endpoint != self.first:
            return False
        return call.continues or call.sent_at < self._moved_at.get(call.process, float("inf"))
