"""Trials in the store, as far as their beginning and end are events."""

from __future__ import annotations

from bandit.report import ChangeKind
from router.beliefs.trials import undo_of
from telemetry import changes, keys
from telemetry.changes import ChangeRecord, change_id
from telemetry.dates import utc_day
from telemetry.store import Client
from telemetry.trials import Trial, TrialState, look, read_trials

FIELD = "trial:"
"""The state of a trial that was told, by its id."""


class TrialEvents:
    """Those that were told; not for several threads."""

    def __init__(self) -> None:
        self._told: dict[str, bytes] | None = None  # by field: as it lies in the store
        self._version: bytes | None = None  # of the trials that all were told of

    def settle(self, client: Client) -> list[ChangeRecord]:
        """Tell which trials began or ended since the last look; return what was told here.

        Raises:
            redis.RedisError, OSError: the store is away; it is told at a later look.
        """
        version = look(client)
        if version == self._version:
            return []
        if self._told is None:
            known = changes.read_known(client)
            self._told = {f: state for f, state in known.items() if f.startswith(FIELD)}
        trials = read_trials(client).values()
        told = []
        for trial in trials:
            field, state = f"{FIELD}{trial.id}", trial.state.value.encode()
            before = self._told.get(field, b"")
            if before == state:
                continue
            record = _record(trial)
            if changes.note(client, field, seen=before, value=state, records=[record]):
                self._told[field] = state
                told.append(record)
            else:  # another router was faster
                self._told[field] = client.hget(keys.CHANGES_KNOWN, field) or b""
        gone = self._told.keys() - {f"{FIELD}{trial.id}" for trial in trials}
        if gone:
            client.hdel(keys.CHANGES_KNOWN, *gone)
            self._told = {f: state for f, state in self._told.items() if f not in gone}
        self._version = version
        return told


def _record(trial: Trial) -> ChangeRecord:
    runs = trial.state is TrialState.RUNNING
    subject = trial.task or f"app {trial.app}"
    return ChangeRecord(
        id=change_id(ChangeKind.TRIAL, trial.id, trial.state.value),
        at_ms=trial.began_ms if runs else trial.ended_ms,
        kind=ChangeKind.TRIAL.value,
        subject=subject,
        text=_text(trial),
        reason=trial.reason,
        undo=undo_of(trial),
        app=trial.app,
    )


def _text(trial: Trial) -> str:
    who = trial.challenger or "the routed roles"
    pair = f"{who} against {trial.incumbent or 'the incumbents'}"
    match trial.state:
        case TrialState.RUNNING:
            until = utc_day(trial.ends_ms)
            return f"a trial began: {pair}, half of the sessions each, until {until}"
        case TrialState.WON:
            return f"a trial ended with a gain: {pair}"
        case TrialState.ENDED:
            back = "; the incumbent has the traffic" if trial.auto_pin else ""
            return f"a trial ended: {pair}{back}"
