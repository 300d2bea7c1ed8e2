"""What holds for a call, whether it is routed or passed on: role, task, strategy, merged rules.

A hint chooses among what the configuration has, and loosens nothing: the hard constraints of the
role, task and strategy that the call would have without hints hold beside those that it names.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, structs

from router.config.compiled import Configuration
from router.config.entries import AUTO, Mode
from router.config.rules import NOTHING, MergedPolicy, PolicyRules, strictest
from router.decision.context import AskedModel, Routings, strategy_of, task_of
from router.decision.said import SessionSaid
from router.dialects.request import Structure
from router.policy.callers import Caller
from router.policy.hints import Hints
from router.policy.roles import NO_ROLE
from router.policy.standing import AppStanding, ChosenStrategy, PolicyTable
from router.policy.tasks import FoundBy, Task

Read = Callable[[bool], Structure]
"""Reads the structure of a call, with its system prompt or without."""


class Ruling(Struct, frozen=True):
    """What holds for one call."""

    asked: AskedModel
    task: Task
    chosen: ChosenStrategy
    standing: AppStanding
    usual: AppStanding  # what would stand without hints
    policy: MergedPolicy


def ruled(
    configuration: Configuration,
    caller: Caller,
    hints: Hints,
    model: str,
    session: SessionSaid,
    read: Read | None,
    *,
    off: bool = False,
) -> Ruling:
    """Return what holds for a call.

    Args:
        read: None where the body cannot be read: then it may be of any task that a rule marks.
        off: routing is switched off for everybody.

    Raises:
        RequestRejected: a hint that cannot be followed.
    """
    table, routings = configuration.derive(PolicyTable), configuration.derive(Routings)
    asked = routings.asked(model, hints.role, caller)
    routes = caller.app.entry.mode is Mode.ROUTE and not off
    in_role = asked if routes else _without_callers_role(asked)
    structure = read or _unread
    task = task_of(hints, in_role, caller, structure, configuration, session)
    chosen = strategy_of(configuration, in_role, caller, hints, task.name)
    standing = table.of(caller.app, in_role.role.role, task.name, chosen.strategy)
    usual = standing
    if _is_hinted(hints, asked, task):
        usual = _usual(configuration, caller, hints, asked, structure, routes=routes)
    unread = _of_marked(configuration) if read is None else NOTHING
    policy = table.policy(
        standing,
        hints.rules(),
        session=session.rules,
        holder=caller.holder,
        user=hints.user,
        strategy=chosen.asked,
        usual=usual,
        unread=unread,
    )
    return Ruling(asked, task, chosen, standing, usual, policy)


def _is_hinted(hints: Hints, asked: AskedModel, task: Task) -> bool:
    """Return whether a call itself says role, task or strategy, or its session its task."""
    target = asked.target
    named = (hints.task, hints.strategy, hints.role, target.task, target.strategy, target.role)
    return any(named) or task.found_by is FoundBy.SESSION


def _usual(
    configuration: Configuration,
    caller: Caller,
    hints: Hints,
    asked: AskedModel,
    read: Read,
    *,
    routes: bool,
) -> AppStanding:
    """Return what would stand for a call if it, and its session, said nothing."""
    table, routings = configuration.derive(PolicyTable), configuration.derive(Routings)
    target = structs.replace(asked.target, task=None, strategy=None, role=None)
    model = AUTO if asked.target.role is not None else asked.target.name
    plain = AskedModel(target, routings.asked(model, None, caller).role)
    if not routes:
        plain = _without_callers_role(plain)
    silent = structs.replace(hints, task=None, strategy=None, role=None, complexity=None)
    task = task_of(silent, plain, caller, read, configuration)
    chosen = strategy_of(configuration, plain, caller, silent, task.name)
    return table.of(caller.app, plain.role.role, task.name, chosen.strategy)


def _without_callers_role(asked: AskedModel) -> AskedModel:
    """Return what is asked for without a role that a model's name means: its own model serves."""
    return structs.replace(asked, role=NO_ROLE) if asked.role.by_model else asked


def _unread(read_system: bool) -> Structure:
    return Structure()


class _Marked:
    """The hard constraints of all tasks that a rule of structure marks, together."""

    def __init__(self, configuration: Configuration) -> None:
        names = [name for name, _ in configuration.rules]
        self.rules = strictest(configuration.task_rules[name] for name in names)


def _of_marked(configuration: Configuration) -> PolicyRules:
    return configuration.derive(_Marked).rules
