"""Trials that run and come to nothing: past their end, or with nobody to assign."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bandit.report import PageTrouble
from router.beliefs.review_keys import is_current
from router.beliefs.trials import keys_of
from router.config.compiled import Configuration
from router.config.entries import Mode
from router.policy.exploring import why_held
from router.policy.route import rivals_of
from router.policy.standing import PolicyTable
from telemetry.trials import Trial, TrialState


def trial_troubles(
    trials: Iterable[Trial], configuration: Configuration, now_ms: int
) -> Iterator[PageTrouble]:
    """Yield what is amiss with trials that run, of apps that this configuration has."""
    for trial in trials:
        if trial.state is not TrialState.RUNNING or trial.app not in configuration.apps:
            continue
        of = f"trial {trial.id} of {trial.task or f'app {trial.app}'}"
        if trial.is_overdue(now_ms):
            yield PageTrouble(
                f"{of} is past its end, and no job ended it: calls go by it no more",
                trial.ends_ms,
                "start a worker (`pointsman work`): it works out what the trial showed",
            )
        elif why := why_idle(trial, configuration):
            fix = f"change that, or pointsman trial stop {trial.id}"
            yield PageTrouble(f"{of} is idle: {why}", fix=fix)


def why_idle(trial: Trial, configuration: Configuration) -> str:
    """Return why no call is assigned to a side of a trial that runs; empty where some may be."""
    app = configuration.apps[trial.app]
    if app.entry.mode is not Mode.ROUTE:
        return f"apps.{trial.app}.mode is {app.entry.mode.value}"
    if trial.is_of_app:
        return ""
    catalog = configuration.catalog
    incumbent, challenger = (catalog.by_id.get(n) for n in (trial.incumbent, trial.challenger))
    if incumbent is None or challenger is None:
        return ""  # a router that has them no more ends it
    if not any(is_current(key, configuration) for key in keys_of(trial)):
        return ""  # the same
    strategy, role = configuration.strategies[trial.strategy], configuration.roles.get(trial.role)
    standing = configuration.derive(PolicyTable).of(app, role, trial.task, strategy)
    if challenger.group not in {rival.group for rival in rivals_of(standing, incumbent)}:
        return f"{trial.challenger} may not serve these calls; see `pointsman check`"
    held = why_held(standing.policy)
    return f"these calls may not be explored ({held})" if held else ""
