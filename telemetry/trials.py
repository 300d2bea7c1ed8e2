"""Trials and hold-outs in the store: who is compared with whom, since when, and how it ended.

A trial is written once, changed only by who read the version that it changes, and never deleted
while its verdict is shown. A hold-out is what a won trial leaves behind: the same record, in
another state, with a beginning of its own.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class TrialState(StrEnum):
    """Where a trial stands."""

    RUNNING = "running"  # half of the units go to the incumbent, half to the challenger
    WON = "won"  # ended; a hold-out follows it for as long as `holdout` is above 0
    ENDED = "ended"  # without a gain, by hand, by its time, money, or because a side was lost


class Trial(Struct, frozen=True, kw_only=True):
    """One trial of one release key, or of an app's whole map of roles."""

    id: str  # 12 letters and digits, drawn by who starts it
    app: str
    strategy: str
    role: str = ""
    model: str = ""  # the caller's own, as of the review key
    task: str = ""  # empty: the app's whole routed map against the incumbent's
    incumbent: str  # endpoint id of the group's first host
    challenger: str = ""  # the same; empty of an app's whole map
    release_key: int = 0  # digest under which records carry it; 0 of an app's whole map
    began_ms: int
    ends_ms: int  # when it ends at the latest
    cap_usd: float | None = None  # what the challenger's side may cost in all
    smallest_pp: float | None = None  # the smallest difference it can show, as told at its start
    state: TrialState = TrialState.RUNNING
    ended_ms: int = 0
    reason: str = ""  # why it ended, in a word
    holdout: float = 0.0  # share of units that goes to the incumbent from `ended_ms` on
    auto_pin: bool = False  # the incumbent has the traffic, because it ended without a gain
    version: int = 1

    @property
    def is_of_app(self) -> bool:
        """Whether it holds an app's whole map, rather than one task."""
        return not self.task
