"""Review keys: of which calls they are, and who may serve those. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterable

from router.beliefs.kept import ReviewKey
from router.config.compiled import Configuration
from router.config.entries import Mode
from router.config.strategies import Exchangeable
from router.endpoints.catalog import Catalog, speakers
from router.endpoints.entries import Dialect
from router.policy.exploring import why_held
from router.policy.roles import find_role
from router.policy.route import first_permitted, incumbents_of
from router.policy.standing import AppStanding, PolicyTable, apart_of, choose_strategy


def seeds(configuration: Configuration) -> list[ReviewKey]:
    """Return the review keys that the configuration alone makes known: each app's own strategy."""
    out = []
    table = configuration.derive(PolicyTable)
    for app in configuration.apps.values():
        if app.entry.mode is not Mode.ROUTE:
            continue
        for task in configuration.tasks:
            strategy = choose_strategy(configuration, app, None, task).strategy
            if strategy.exchange is not Exchangeable.ANY:
                continue  # nothing is ever chosen
            standing = table.of(app, None, task, strategy)
            out += [
                ReviewKey(app.name, strategy.name, "", name, "", standing.apart)
                for name in incumbents_of(standing)
            ]
    return list(dict.fromkeys(out))


def is_current(review_key: ReviewKey, configuration: Configuration) -> bool:
    """Return whether calls of this key can still come; its incumbent may be another."""
    standing = standing_of(review_key, configuration)
    if standing is None or standing.app.entry.mode is not Mode.ROUTE:
        return False
    if standing.strategy.exchange is not Exchangeable.ANY:
        return False
    if review_key.model:
        listed = configuration.catalog.by_model.get(review_key.model) or ()
        asked = find_role(configuration, review_key.model, None, None)
        is_meant = asked.role is not None and asked.role is standing.role
        if not ((standing.app.entry.map_models or is_meant) and listed):
            return False
        taking = (speakers(listed, dialect) for dialect in Dialect)
        firsts = [first_permitted(standing, own).id for own in taking if own]
        return review_key.incumbent in firsts
    return review_key.incumbent in incumbents_of(standing)


def standing_of(review_key: ReviewKey, configuration: Configuration) -> AppStanding | None:
    """Return what stands for calls of a key; None where no call can be of it any more."""
    app = configuration.apps.get(review_key.app)
    strategy = configuration.strategies.get(review_key.strategy)
    role = configuration.roles.get(review_key.role)
    if app is None or strategy is None or (review_key.role and role is None):
        return None
    if review_key.task and review_key.task not in configuration.tasks:
        return None  # it was taken out
    tasks = [review_key.task] if review_key.task else configuration.tasks
    task = next((t for t in tasks if apart_of(configuration, t) == review_key.task), None)
    if task is None:
        return None
    return configuration.derive(PolicyTable).of(app, role, task, strategy)


def host_of(standing: AppStanding, catalog: Catalog, group: int) -> str:
    """Return the id of a group's first host that is permitted, by which the group is named."""
    return first_permitted(
        standing, [catalog.endpoints[arm] for arm in catalog.group_members[group]]
    ).id


def first_hosts(review_key: ReviewKey, configuration: Configuration) -> list[str]:
    """Return by group the id of its first host that is permitted to calls of a key."""
    standing, catalog = standing_behind(review_key, configuration), configuration.catalog
    return [host_of(standing, catalog, g) for g in range(len(catalog.group_members))]


def known_review_keys(
    configuration: Configuration, kept: Iterable[ReviewKey], wanted: Iterable[ReviewKey] = ()
) -> list[ReviewKey]:
    """Return the review keys in use: of the configuration, of the store, and those asked for."""
    known = dict.fromkeys([*configuration.derive(seeds), *kept, *wanted])
    return [review_key for review_key in known if is_current(review_key, configuration)]


def standing_behind(review_key: ReviewKey, configuration: Configuration) -> AppStanding:
    """Return what stands for calls of a key that are still to come."""
    standing = standing_of(review_key, configuration)
    assert standing is not None  # keys that no call can be of are left out before
    return standing


def why_tasks_are_held(review_key: ReviewKey, configuration: Configuration) -> list[str]:
    """Return by task why calls of a key stay with what is chosen; empty where they may explore.

    Tasks share a key as long as the same endpoints may serve them: what one of them says of its
    stakes holds for none of the others.
    """
    standing, table = standing_behind(review_key, configuration), configuration.derive(PolicyTable)
    app, role, strategy = standing.app, standing.role, standing.strategy
    return [
        why_held(table.of(app, role, task, strategy).policy) for task in configuration.task_index
    ]
