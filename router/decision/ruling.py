"""What holds for a call, whether it is routed or passed on: role, task, strategy, merged rules.

A hint chooses among what the configuration has, and loosens nothing: the hard constraints of the
role, task and strategy that the call would have without hints hold beside those that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Protocol

from msgspec import Struct, structs

from router.config.compiled import Configuration, Role
from router.config.entries import AUTO, Mode
from router.config.levels import parent_of
from router.config.named import did_you_mean
from router.config.rules import NOTHING, MergedPolicy, hard_of
from router.decision.context import AskedModel, Routings
from router.decision.said import NOTHING_SAID, SessionSaid
from router.dialects.request import Structure
from router.errors import RequestRejected
from router.policy.callers import Caller
from router.policy.hints import Hints
from router.policy.standing import AppStanding, PolicyTable
from router.policy.tasks import MARKED, FoundBy, Said, Task, categorize
from telemetry.numbers import brief

Guess = Callable[[Task], Task]
"""Says more of a call that is of `general` by all that decides."""
MAX_TASK = 128
"""Characters of a name that somebody may have meant."""


class ReadStructure(Protocol):
    """Reads what structural rules may look at of a call."""

    def __call__(self, *, read_system: bool) -> Structure:
        """Return it; the system prompt only where that is asked for."""


class Ruling(Struct, frozen=True, eq=False):
    """What holds for one call."""

    asked: AskedModel
    task: Task
    standing: AppStanding
    usual: AppStanding  # what would stand without hints
    policy: MergedPolicy
    mark: object  # the same of rulings that differ in what a prompt looks like alone
    by_structure: bool = False  # some rule looked at the structure of the request


def work_out(
    configuration: Configuration,
    caller: Caller,
    hints: Hints,
    model: str,
    session: SessionSaid,
    read: ReadStructure | None,
    *,
    off: bool,
    guess: Guess | None = None,
) -> Ruling:
    """Return what holds for a call, as `rulings.ruled` remembers it.

    Args:
        read: None where the body cannot be read: then it may be of any task that a rule marks.
        off: nothing is routed: a role that callers mean by a model's name is only booked.
        guess: says more of a call of which nobody says what it is, and no rule; None: nothing does.

    Raises:
        RequestRejected: a hint that cannot be followed.
    """
    table, routings = configuration.derive(PolicyTable), configuration.derive(Routings)
    asked = routings.asked(model, hints.role, caller)
    routes = caller.app.entry.mode is Mode.ROUTE and not off
    role, look = _binding(asked, routes=routes), read or nothing_read
    hint, target = hints.task or asked.target.task, asked.target
    task = asked_task(configuration, caller, hints, asked, session, look, off=off, guess=guess)
    wanted = target.strategy if hints.strategy is None else hints.strategy
    own = caller.holder.user if caller.holder is not None else None
    users = own, hints.user
    chosen = table.strategy(caller.app, role, task.name, wanted=wanted, users=users)
    standing = usual = table.of(caller.app, role, task.name, chosen.strategy)
    names_role = hints.role is not None or target.role is not None
    names_task = hint is not None or task.found_by in (FoundBy.SESSION, FoundBy.CLASSIFIER)
    if names_role or names_task or wanted is not None:
        if names_role:
            plain = routings.asked(AUTO if target.role is not None else model, None, caller)
            role = _binding(plain, routes=routes)
        name = task.name
        if names_role or names_task:
            name = task_of(configuration, caller, role, look).name
        found = table.strategy(caller.app, role, name, wanted=None, users=users)
        usual = table.of(caller.app, role, name, found.strategy)
    policy = table.policy(
        standing,
        hints.rules(),
        session=session.rules,
        holder=caller.holder,
        user=hints.user,
        strategy=chosen.asked,
        usual=usual,
        unread=NOTHING if read is not None else table.marked(caller.app, role, users),
    )
    return Ruling(asked, task, standing, usual, policy, object())


def asked_task(
    configuration: Configuration,
    caller: Caller,
    hints: Hints,
    asked: AskedModel,
    session: SessionSaid,
    read: ReadStructure,
    *,
    off: bool,
    guess: Guess | None,
) -> Task:
    """Return the task of a call that asks for a model, with its hints; else as `ruled`.

    Raises:
        RequestRejected: an unknown task, where tasks hold constraints.
    """
    routes = caller.app.entry.mode is Mode.ROUTE and not off
    role, hint = _binding(asked, routes=routes), hints.task or asked.target.task
    task = task_of(configuration, caller, role, read, hint, hints.complexity, session)
    if guess is not None and hint is None and task.found_by is FoundBy.GENERAL:
        return guess(task)
    return task


def nothing_read(*, read_system: bool) -> Structure:
    """Return the structure of what has none that rules may look at."""
    return Structure()


def _binding(asked: AskedModel, *, routes: bool) -> Role | None:
    """Return the role whose rules hold: where nothing is routed, a named model serves unchanged."""
    return None if asked.role.by_model and not routes else asked.role.role


def task_of(
    configuration: Configuration,
    caller: Caller,
    role: Role | None,
    read: ReadStructure,
    hint: str | None = None,
    complexity: str | None = None,
    session: SessionSaid = NOTHING_SAID,
) -> Task:
    """Return the task of a call; its structure is read only where a rule asks for it.

    A role of several tasks says the first of them, unless a rule marks another one of them.

    Raises:
        RequestRejected: an unknown task, where tasks hold constraints.
    """
    tasks, rules = configuration.tasks, configuration.rules
    if hint in tasks and complexity is None:
        return Task(hint, None, FoundBy.HINT)  # most often, where callers say it
    if hint is not None:
        hint = _known_task(hint, configuration)
    said = _said(hint, role, caller, session)
    group = _group(role) if hint is None else ()
    if len(group) > 1:
        rules = tuple((name, match) for name, match in rules if name in group)
    structure = Structure()
    if rules and (len(group) > 1 or not any(name for _, name in said)):
        structure = read(read_system=configuration.reads_system)
    marks = configuration.derive(_Marks)
    find = partial(
        categorize,
        tasks=tasks,
        rules=rules,
        complexity=complexity,
        looks=marks.looks,
        by_structure=marks.by_structure,
        implied=configuration.implied,
    )
    if len(group) > 1:
        found = find((), structure)
        if found.found_by in MARKED:
            return structs.replace(found, of_session=None)  # it is one of the role's
    return find(said, structure)


def _group(role: Role | None) -> Sequence[str]:
    return role.entry.tasks if role is not None else ()


def _said(
    hint: str | None, role: Role | None, caller: Caller, session: SessionSaid
) -> tuple[Said, ...]:
    """Return what is said of a call's task, in the order that decides."""
    holder = caller.holder
    return (
        (FoundBy.HINT, hint),
        (FoundBy.ROLE, next(iter(_group(role)), None)),
        (FoundBy.KEY, holder.task if holder is not None else None),
        (FoundBy.APP, caller.app.entry.task),
        (FoundBy.SESSION, session.task),
    )


def _known_task(hint: str, configuration: Configuration) -> str:
    """Return the task that a hint means; of a leaf that there is not, what it would be below.

    Raises:
        RequestRejected: there is none, and tasks hold constraints: then it is not guessed.
    """
    tasks = configuration.tasks
    above = parent_of(hint)
    if hint not in tasks and above in tasks and above is not None:
        return above
    if hint not in tasks and configuration.derive(_TaskRules).are_some:
        known = [name for name in tasks if name not in configuration.implied]
        raise RequestRejected(
            "unknown_task",
            f"unknown task {brief(hint)}, and tasks hold constraints here"
            + did_you_mean(hint[:MAX_TASK], known),
            param="task",
        )
    return hint


class _Marks:
    """What structure says beside rules, under one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self._systems = configuration.systems
        self.by_structure: Collection[str] = (
            configuration.implied if configuration.structural_complexity else ()
        )

    def looks(self, structure: Structure) -> str | None:
        """Return which task's exemplars a system prompt and tool names look like, if any's."""
        return self._systems.task_of_system(structure.system, structure.tools)


class _TaskRules:
    """Whether any task says what must hold."""

    def __init__(self, configuration: Configuration) -> None:
        self.are_some = any(hard_of(one) != NOTHING for one in configuration.task_rules.values())
