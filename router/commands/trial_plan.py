"""Which trial is meant: of which key, between whom. What cannot be meant is said with the fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from bandit.incumbent import contrast
from router.beliefs.beliefs import Beliefs
from router.beliefs.kept import ReviewKey, release_key
from router.beliefs.review_keys import first_hosts
from router.commands.console import BAD_INPUT, fail
from router.config.compiled import App, Configuration
from router.config.entries import Mode
from router.config.named import did_you_mean
from router.config.strategies import Exchangeable
from router.errors import RequestRejected
from router.policy.route import incumbents_of, rivals_of
from router.policy.standing import PolicyTable, choose_strategy
from telemetry.trials import Trial, new_id


@dataclass(frozen=True, slots=True)
class AskedTrial:
    """What was asked for, as it was written."""

    task: str
    app: str | None
    strategy: str | None
    role: str | None
    challenger: str | None
    days: float
    cap_usd: float | None


def plan_trial(asked: AskedTrial, beliefs: Beliefs, *, now_ms: int) -> Trial:
    """Return the trial that is meant; what cannot be meant ends the verb."""
    configuration = beliefs.configuration
    app = _app(asked, configuration)
    if configuration.archive.keep_days == 0:
        _refuse(
            "archive.keep_days is 0: a trial is worked out from archived records, so it could show "
            "nothing; set archive.keep_days to 30 (what it is by default) first"
        )
    if app.entry.mode is not Mode.ROUTE:
        _refuse(
            f"apps.{app.name}.mode is {app.entry.mode.value}: nothing is drawn there; "
            "set mode: route first"
        )
    if app.entry.locked and asked.task:
        _refuse(
            f"TASK {asked.task}: app {app.name} is locked: its episodes are compared as a whole, "
            f"by pointsman trial --app {app.name}"
        )
    return (
        _of_task(asked, app, beliefs, now_ms)
        if asked.task
        else _of_app(asked, app, beliefs, now_ms)
    )


def _of_task(asked: AskedTrial, app: App, beliefs: Beliefs, now_ms: int) -> Trial:
    configuration, task = beliefs.configuration, asked.task
    above = configuration.leaves.get(task)
    if above is not None and beliefs.row(app, task) != configuration.task_index.get(task):
        _refuse(f"TASK {task}: it has too few labels to decide by itself; try {above}, above it")
    if task not in configuration.task_index:
        _unknown("TASK", task, list(configuration.task_index))
    key = _key(asked, app, configuration)
    group = _challenger(asked, app, key, beliefs)
    choices = beliefs.choices.get(key)
    value = choices.objective.at(beliefs.row(app, task)).value_usd if choices is not None else None
    return Trial(
        id=new_id(),
        app=app.name,
        strategy=key.strategy,
        role=key.role,
        model=key.model,
        task=task,
        incumbent=key.incumbent,
        challenger=first_hosts(key, configuration)[group],
        release_key=release_key(app.digest, f"{task}\x1f{key.text}"),
        began_ms=now_ms,
        ends_ms=now_ms + int(asked.days * 86_400_000),
        cap_usd=asked.cap_usd,
        holdout=app.entry.holdout,
        auto_pin=app.entry.auto_pin,
        value_usd=value,
    )


def _challenger(asked: AskedTrial, app: App, key: ReviewKey, beliefs: Beliefs) -> int:
    """Return the group that is named, or the one that promises most; it may serve these calls."""
    configuration, task = beliefs.configuration, asked.task
    catalog = configuration.catalog
    role, strategy = configuration.roles.get(key.role), configuration.strategies[key.strategy]
    standing = configuration.derive(PolicyTable).of(app, role, task, strategy)
    incumbent = catalog.by_id[key.incumbent]
    rivals = {e.group for e in rivals_of(standing, incumbent)} - {incumbent.group}
    if asked.challenger is not None:
        endpoint = catalog.by_id.get(asked.challenger)
        if endpoint is None:
            _unknown("--challenger", asked.challenger, list(catalog.by_id))
        if endpoint.group == incumbent.group:
            _refuse(f"--challenger {endpoint.id}: it is the incumbent's own model; name another")
        if endpoint.group not in rivals:
            _refuse(f"--challenger {endpoint.id}: it may not serve these calls; see `check`")
        return endpoint.group
    if not rivals:
        _refuse(f"TASK {task}: nobody but {key.incumbent} may serve it; list another endpoint")
    return _best(beliefs, key, beliefs.row(app, task), incumbent.group, rivals)


def _of_app(asked: AskedTrial, app: App, beliefs: Beliefs, now_ms: int) -> Trial:
    for name, value in (
        ("--challenger", asked.challenger),
        ("--strategy", asked.strategy),
        ("--role", asked.role),
    ):
        if value is not None:
            _refuse(f"{name}: a trial of a whole app has none; name a TASK, or leave it out")
    keys = [key for key in beliefs.choices if key.app == app.name and not key.model]
    if not keys:
        _refuse(f"--app {app.name}: it has no incumbent to compare with; name one (`incumbent`)")
    strategy = beliefs.configuration.strategies[keys[0].strategy]
    return Trial(
        id=new_id(),
        app=app.name,
        strategy=strategy.name,
        incumbent=keys[0].incumbent,
        began_ms=now_ms,
        ends_ms=now_ms + int(asked.days * 86_400_000),
        cap_usd=asked.cap_usd,
        holdout=app.entry.holdout,
        auto_pin=app.entry.auto_pin,
        value_usd=strategy.objective.value_usd,
    )


def _app(asked: AskedTrial, configuration: Configuration) -> App:
    apps = configuration.apps
    if asked.app is not None:
        if asked.app not in apps:
            _unknown("--app", asked.app, list(apps))
        return apps[asked.app]
    if len(apps) > 1:
        _refuse(f"--app: which one? There are {', '.join(apps)}")
    return next(iter(apps.values()))


def _key(asked: AskedTrial, app: App, configuration: Configuration) -> ReviewKey:
    """Return the review key of a task's calls in the role and under the strategy that are named."""
    role = None
    if asked.role is not None:
        role = configuration.roles.get(asked.role)
        if role is None:
            _unknown("--role", asked.role, list(configuration.roles))
    try:
        strategy = choose_strategy(
            configuration, app, role, asked.task, wanted=asked.strategy
        ).strategy
    except RequestRejected:
        _unknown("--strategy", asked.strategy or "", list(configuration.strategies))
    standing = configuration.derive(PolicyTable).of(app, role, asked.task, strategy)
    incumbents = incumbents_of(standing)
    if strategy.exchange is not Exchangeable.ANY:
        _refuse(f"--strategy {strategy.name}: its exchange keeps every call with one model")
    if not incumbents:
        _refuse(
            f"--strategy {strategy.name}: it has no incumbent to compare with (incumbent: none); "
            "name an endpoint"
        )
    return ReviewKey(app.name, strategy.name, "", incumbents[0], standing.role_name, standing.apart)


def _best(beliefs: Beliefs, key: ReviewKey, row: int, inc: int, rivals: set[int]) -> int:
    """Return the rival that the posterior expects most of."""
    posterior = beliefs.posterior_of(key.app)
    strategy = beliefs.configuration.strategies[key.strategy]
    at = beliefs.configuration.catalog.by_id[key.incumbent].index
    mean, _ = contrast(posterior, strategy.objective_at(posterior, at), row, inc)
    among = np.full(len(mean), -np.inf)
    among[list(rivals)] = mean[list(rivals)]
    return int(among.argmax())


def _unknown(field: str, value: str, known: list[str]) -> NoReturn:
    _refuse(f"{field} {value!r}: there is none of that name{did_you_mean(value, known)}")


def _refuse(why: str) -> NoReturn:
    fail(why, BAD_INPUT)
