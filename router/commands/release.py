"""`pointsman release`: says yes to a proposal, undoes a release, or lists both.

The store itself is asked, so it works while no sidecar runs; those that do follow within a second.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

from router.beliefs.beliefs import Beliefs
from router.beliefs.by_hand import HandAnswer, accept, case_of, undo
from router.beliefs.kept import Kept, NoteKind, Proposal, ReleaseNotice, release_id
from router.beliefs.release_log import read_release_log, reason_of
from router.beliefs.releases import RELEASE, Releases, as_proposed, as_told
from router.beliefs.review_keys import is_current
from router.beliefs.teachers import with_teachers
from router.beliefs.waiting import HELD
from router.commands.console import BAD_INPUT, FAILED, fail, print_json
from router.commands.inputs import opened_store
from router.config.compiled import Configuration, compile_text
from router.config.file import read
from router.config.places import NoHome, find_file, places
from router.config.watch import read_kept
from router.errors import ConfigError
from router.report.gather import read_beliefs
from router.report.terminal_text import clean
from telemetry import logs
from telemetry.clock import store_now_ms
from telemetry.dates import utc_minute
from telemetry.store import Client, StoreErrors, connect
from telemetry.trials import TrialState
from telemetry.trouble import trouble_of

VERBS = ("accept", "undo", "list")
ID = re.compile(r"[0-9a-f]{8}")
LISTED, LOOKED_AT = 20, 10_000
"""Entries of the stream that are listed, and among which an id is looked for."""
TIMES = 5
"""A change is tried so often while sidecars change the same choices."""
SEE_LIST = "see pointsman release list"

Found = tuple[Kept, Proposal | ReleaseNotice]


def release(what: str, id_: str, config: Path | None, *, as_json: bool) -> None:
    """Do what is asked; end in 2 where it makes no sense, in 1 where it was refused."""
    logs.configure()
    if what not in VERBS or bool(id_) != (what != "list"):
        fail("say release accept ID, release undo ID, or release list", BAD_INPUT)
    id_ = id_.lower()
    if id_ and not ID.fullmatch(id_):
        fail(f"{id_}: an id has 8 hex digits; {SEE_LIST}", BAD_INPUT)
    configuration = _configuration(find_file(config))
    with opened_store(configuration) as address:
        try:
            with closing(connect(address)) as client:
                if what == "list":
                    _list(client, as_json=as_json)
                    return
                releases = Releases(client, logs=False)
                beliefs = read_beliefs(configuration, address)[0]
                told = _change(what, id_, releases, beliefs, client)
        except BrokenPipeError:
            raise  # who reads what is printed has gone: that is not the store
        except StoreErrors as error:
            fail(f"the store: {trouble_of(error).shown}", FAILED)
    if as_json:
        print_json(told)
    else:
        print(f"{_line(told)}\nundo it: pointsman release undo {told['id']}")


def _configuration(file: Path) -> Configuration:
    """Return what is in force: the file, or while a sidecar refuses it, what that one goes by."""
    try:
        text = read(file)
        kept = read_kept(places(file).state_dir)
        if kept is not None and kept.is_refused(text):
            return compile_text(kept.text, file=kept.file, secrets=False)
        return compile_text(text, file=str(file), secrets=False)
    except (ConfigError, NoHome) as error:
        fail(str(error), BAD_INPUT)


def _change(
    what: str, id_: str, releases: Releases, beliefs: Beliefs, client: Client
) -> dict[str, Any]:
    """Return what was released; where that is refused, end with a word of why."""
    for _ in range(TIMES):
        releases.read()
        found = (_proposal if what == "accept" else _release)(id_, releases.kept.values())
        if found is None:
            _unknown(what, id_, releases, client)
        now_ms = store_now_ms(client)
        said = _answer(*found, beliefs, now_ms)
        if said.kept is None:
            fail(said.refused, FAILED)
        after, told = with_teachers(said.kept, said.released, beliefs)
        if not releases.change(after, told, now_ms=now_ms):
            continue  # somebody was faster: look again
        if said.refused:
            fail(said.refused, FAILED)
        return as_told(after, told[0], now_ms)
    fail("sidecars go on changing the same choices; say it again", FAILED)


def _proposal(id_: str, every: Iterable[Kept]) -> Found | None:
    """Return the open proposal of that id, and what is kept beside it."""
    waiting = ((kept, one) for kept in every for one in kept.waiting.values())
    return next((found for found in waiting if found[1].id == id_), None)


def _release(id_: str, every: Iterable[Kept]) -> Found | None:
    """Return the last release of a task by its id, and what is kept beside it."""
    last = ((kept, one) for kept in every for one in kept.last.values())
    return next((found for found in last if release_id(found[0].review_key, found[1]) == id_), None)


def _answer(
    kept: Kept, found: Proposal | ReleaseNotice, beliefs: Beliefs, now_ms: int
) -> HandAnswer:
    """Return what becomes of it; of choices that no call has any more nothing does."""
    if not is_current(kept.review_key, beliefs.configuration):
        return HandAnswer(refused="no call goes by this choice in the configuration any more")
    if refused := _pinned(kept, found.task, beliefs):
        return HandAnswer(refused=refused)
    case = case_of(kept, beliefs)
    if isinstance(found, Proposal):
        return accept(case, found, now_ms=now_ms)
    return undo(case, found, now_ms=now_ms)


def _pinned(kept: Kept, task: str, beliefs: Beliefs) -> str:
    """Return why a task stays where it is: pinned after a trial. Empty where it may move."""
    choices = beliefs.choices.get(kept.review_key)
    trial = choices.trials.get(task) if choices is not None else None
    if trial is None or trial.state is not TrialState.ENDED:
        return ""
    return f"{task} is pinned after trial {trial.id}; pointsman trial resume {trial.id} lifts that"


def _unknown(what: str, id_: str, releases: Releases, client: Client) -> NoReturn:
    """End with what became of an id, as far as the store tells."""
    told = read_release_log(client, releases.kept.values(), most=LOOKED_AT)
    named = next((one for one in told if one["id"] == id_), None)
    if named is None:
        fail(f"{id_}: no {'proposal' if what == 'accept' else 'release'}; {SEE_LIST}", BAD_INPUT)
    if what == "undo":
        if named["kind"] != RELEASE:
            fail(f"{id_} is a proposal: nothing was released; {SEE_LIST}", BAD_INPUT)
        fail(f"{id_}: {named['task']} moved again since; undo that one; {SEE_LIST}", FAILED)
    if named["kind"] == RELEASE:
        fail(f"{id_} is a release: it took effect; {SEE_LIST}", BAD_INPUT)
    if named["kind"] == NoteKind.LAPSED:
        fail(f"proposal {id_} lapsed {utc_minute(named['at_ms'])}: {named['why']}", FAILED)
    fail(f"proposal {id_} is not open any more; {SEE_LIST}", FAILED)


def _list(client: Client, *, as_json: bool) -> None:
    """Print what waits, then the last releases, newest first."""
    releases = Releases(client, logs=False)
    releases.read()
    every = list(releases.kept.values())
    told = [e for e in read_release_log(client, every, most=LOOKED_AT) if e["kind"] == RELEASE]
    last = {
        release_id(kept.review_key, one)
        for kept in every
        for one in kept.last.values()
        if kept.current.get(one.task) == one.after
    }
    rows = [{**one, "can_be_undone": one["id"] in last} for one in told[:LISTED]]
    open_ = [as_proposed(kept, one) for kept in every for one in kept.waiting.values()]
    if as_json:
        print_json({"proposals": open_, "releases": rows})
        return
    for one in sorted(open_, key=lambda one: int(one["made_at_ms"])):
        waits = " (waits for a yes)" if one["id"] else ""
        print(f"{one['id'] or HELD}  {_line({**one, 'at_ms': one['made_at_ms']})}{waits}")
    for one in rows:
        print(f"{one['id']}  {_line(one)}{'' if one['can_be_undone'] else ' (moved again since)'}")
    if not open_ and not rows:
        print("nothing was released yet, and nothing waits")


def _line(one: dict[str, Any]) -> str:
    """Return a release, or one that waits, in a line."""
    odds = "" if one["p_better"] is None else f" with P = {one['p_better']:.3f}"
    names = (one.get(name) for name in ("app", "strategy", "role", "model"))
    whose = " ".join(str(name) for name in names if name)
    moved = f"{one['task']} from {one['before']} to {one['after']}: {reason_of(one)}{odds}"
    return clean(f"{utc_minute(one['at_ms'])} {whose}: {moved}")
