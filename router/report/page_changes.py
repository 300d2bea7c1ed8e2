"""What changed, as the page tells it: releases, proposals, trials, alarms, and the log of the rest.

Each has its date, its reason and, where there is something to take back, one command.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import structlog

from bandit.report import ChangeKind, ChangeLine
from router.beliefs.release_log import reason_of, undo_of
from router.beliefs.trials import undo_of as undo_of_trial
from router.report.page_wish import PageWish
from telemetry import keys
from telemetry.changes import ChangeRecord, read_changes
from telemetry.damaged import DAMAGED, object_of
from telemetry.dates import utc_day
from telemetry.store import Client
from telemetry.trials import Trial, TrialState

log = structlog.get_logger()

MOST_READ = 1000
"""Of each stream, the newest."""
MOST_CHANGES = 40
FELL, ROSE, RECOVERED = "down", "up", "restored"
ALARMS = {FELL: "quality fell", ROSE: "quality rose", RECOVERED: "quality recovered"}
MOVED_SINCE = "moved_since"
"""Set in a release after which its task moved again, so that only the later one can be undone."""

Told = Mapping[str, Any]


def page_changes(
    client: Client, wish: PageWish, trials: Iterable[Trial], most: int = MOST_CHANGES
) -> tuple[tuple[ChangeLine, ...], int]:
    """Return the changes of a wish, the newest first, and how many older ones are left out.

    Raises:
        redis.RedisError: the store is away.
    """
    found = [
        *_each(_marked(_stream(client, keys.RELEASES, b"release", wish)), release_line),
        *_each(_stream(client, keys.RELEASES, b"note", wish), note_line),
        *_each(_stream(client, keys.ALARMS, b"alarm", wish), alarm_line),
        *map(_logged, read_changes(client, since_ms=wish.since_ms, limit=MOST_READ)),
        *(line for trial in trials for line in trial_lines(trial)),
    ]
    held = list(_each(read_proposals(client), proposal_line))
    mine = [line for line in found if line is not None and _is_meant(line, wish)]
    mine += [line for line in held if wish.app in (None, line.app)]  # whenever they were made
    mine.sort(key=lambda line: -line.at_ms)
    return tuple(mine[:most]), max(len(mine) - most, 0)


def _is_meant(line: ChangeLine, wish: PageWish) -> bool:
    if not wish.since_ms <= line.at_ms < wish.until_ms:
        return False
    if wish.app is not None and line.app not in ("", wish.app):
        return False
    of_task = line.kind in (ChangeKind.RELEASE, ChangeKind.PROPOSAL, ChangeKind.TRIAL)
    named = wish.task is None or line.subject == wish.task
    return named or not of_task


def _stream(client: Client, name: str, field: bytes, wish: PageWish) -> Iterator[Told]:
    for _, entry in client.xrevrange(name, "+", max(wish.since_ms, 0), count=MOST_READ):
        try:
            told = json.loads(entry[field])
        except DAMAGED:
            continue
        if isinstance(told, dict):
            yield told


def _marked(releases: Iterable[Told]) -> Iterator[Told]:
    """Yield releases, the newest first, and mark those after which their task moved again."""
    seen = set()
    for told in releases:
        whose = tuple(told.get(name) for name in ("app", "strategy", "model", "role", "task"))
        yield {**told, MOVED_SINCE: whose in seen}
        seen.add(whose)


def _each(every: Iterable[Told], line: Callable[[Told], ChangeLine | None]) -> Iterator[ChangeLine]:
    """Yield lines; what is not of this version is left out, and logged."""
    for told in every:
        try:
            found = line(told)
        except DAMAGED as error:
            log.warning("a change cannot be shown", error=type(error).__name__)
            continue
        if found is not None:
            yield found


def release_line(told: Told) -> ChangeLine:
    """Return a release as a change."""
    gain, id_ = told.get("gain"), str(told.get("id") or "")
    expected = "" if gain is None else f", {100 * gain:+.1f} points expected"
    return ChangeLine(
        at_ms=int(told["at_ms"]),
        kind=ChangeKind.RELEASE,
        subject=str(told["task"]),
        text=f"{_move(told)}{expected}",
        reason=_evidence(told),
        undo="" if told.get(MOVED_SINCE) else undo_of(told),
        id=id_,
        app=str(told.get("app") or ""),
    )


NOTED = {
    "lapsed": (ChangeKind.PROPOSAL, "no longer waits for a yes"),
    "yielded": (ChangeKind.BUDGET, "yields: what exploring may cost is spent"),
}
"""What is announced beside releases; a proposal that waits is told as long as it does."""


def note_line(told: Told) -> ChangeLine | None:
    """Return what was announced beside releases as a change."""
    if told["kind"] not in NOTED:
        return None
    kind, says = NOTED[told["kind"]]
    return ChangeLine(
        at_ms=int(told["at_ms"]),
        kind=kind,
        subject=str(told["task"]),
        text=f"{_move(told)} {says}",
        reason=str(told.get("why") or ""),
        id=str(told.get("id") or ""),
        app=str(told.get("app") or ""),
    )


def proposal_line(told: Told) -> ChangeLine:
    """Return a release that waits for a yes."""
    id_ = str(told["id"])
    return ChangeLine(
        at_ms=int(told.get("made_at_ms") or told.get("at_ms") or 0),
        kind=ChangeKind.PROPOSAL,
        subject=str(told["task"]),
        text=f"{_move(told)} waits for a yes",
        reason=_evidence(told),
        undo=f"pointsman release accept {id_}",
        id=id_,
        app=str(told.get("app") or ""),
    )


def _move(told: Told) -> str:
    role = f" (role {told['role']})" if told.get("role") else ""
    return f"{told['before']} → {told['after']}{role}"


def _evidence(told: Told) -> str:
    p_better, labels = told.get("p_better"), told.get("labels") or {}
    odds = "" if p_better is None else f", P(better) {p_better:.3f}"
    by = ", ".join(f"{n:,} of {app}" for app, n in labels.items())
    return f"{reason_of(told)}{odds}" + (f" on labels: {by}" if by else "")


def alarm_line(told: Told) -> ChangeLine | None:
    """Return what was announced among the alarms: a change, a split, a price, a prompt."""
    kind, at_ms = told["kind"], int(told.get("at_ms") or 0)
    subject = str(told.get("endpoint") or told.get("task") or "")
    if kind in ALARMS:
        text = f"{ALARMS[kind]}: rewards × {told['factor']:.2f} of what was expected"
        since = f"{told['labels']:.0f} labels since {utc_day(told['since_ms'])}"
        reason = f"{told['mean_residual']:+.1f} sd on {since}"
        return ChangeLine(at_ms, ChangeKind.DRIFT, subject, text, reason)
    if kind == "split":
        text = f"split off from {', '.join(told['others'])}: its labels are apart"
        return ChangeLine(
            at_ms, ChangeKind.DRIFT, subject, text, str(told["reason"]), "equivalent: true"
        )
    if kind == "prompt":
        return ChangeLine(at_ms, ChangeKind.DRIFT, subject, "has a new prompt", _of_prompt(told))
    return None  # a price that is in doubt is a trouble as long as it is


def _of_prompt(told: Told) -> str:
    named = {name: told[name] for name in ("app", "name", "prompt") if told.get(name)}
    said = ", ".join(f"{name} {value}" for name, value in named.items())
    return f"labels of the former count less{f' ({said})' if said else ''}"


def _logged(record: ChangeRecord) -> ChangeLine | None:
    if record.kind == ChangeKind.TRIAL:
        return None  # trials tell of themselves, with how to stop them
    try:
        kind = ChangeKind(record.kind)
    except ValueError:
        return None  # of a later version
    if kind is ChangeKind.TRIAL:
        return None  # the trials themselves tell it
    return ChangeLine(
        record.at_ms,
        kind,
        record.subject,
        record.text,
        record.reason,
        record.undo,
        record.id[:8],
        record.app,
    )


def trial_lines(trial: Trial) -> Iterator[ChangeLine]:
    """Yield a trial's begin, and its end."""
    subject = trial.task or f"app {trial.app}"
    who = trial.challenger or "the routed roles"
    runs = trial.state is TrialState.RUNNING
    yield ChangeLine(
        trial.began_ms,
        ChangeKind.TRIAL,
        subject,
        f"{trial.incumbent} against {who} at ½ each until {utc_day(trial.ends_ms)}",
        "",
        undo_of_trial(trial) if runs else "",
        trial.id,
        trial.app,
    )
    if trial.ended_ms:
        won = trial.state is TrialState.WON
        holds = trial.holdout and (trial.applied_ms or trial.is_of_app)
        share = f"{100 * trial.holdout:g} % of sessions stay with {trial.incumbent}"
        kept = f"; {share} while {who} {'serves' if trial.challenger else 'serve'}"
        text = f"trial won by {who}{kept if holds else ''}" if won else "trial ended"
        yield ChangeLine(
            trial.ended_ms,
            ChangeKind.TRIAL,
            subject,
            text,
            trial.reason,
            undo_of_trial(trial),
            trial.id,
            trial.app,
        )


def read_proposals(client: Client) -> list[Told]:
    """Return the releases that wait for a yes, as they lie in the store.

    Raises:
        redis.RedisError: the store is away.
    """
    found: list[Told] = []
    for name, value in client.hgetall(keys.PROPOSALS).items():
        told = {"id": name.decode("utf-8", "replace"), **object_of(value)}
        if all(isinstance(told.get(part), str) for part in ("task", "before", "after")):
            found.append(told)
    return found
