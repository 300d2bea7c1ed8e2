"""Roles of locked apps that share a task, and so what is believed of endpoints there."""

from __future__ import annotations

from collections import defaultdict

from router.config.entries import GENERAL, File


def warn_of_shared_parts(entries: File) -> list[str]:
    """Return a line for each task that several roles of a locked app have.

    What is believed goes by task: under one, the word on an episode counts for an endpoint
    whichever of the roles it served, and the best map of roles cannot be told.
    """
    return [
        f"apps.{name}.locked: the roles {' and '.join(roles)} have one task ({task}), so that what "
        "is said of an episode counts for an endpoint whichever of them it served; give each a "
        f"task of its own (roles.{roles[-1]}.tasks)"
        for name, app in entries.all_apps.items()
        if app.locked
        for task, roles in _by_task(entries, app.task).items()
        if len(roles) > 1
    ]


def _by_task(entries: File, of_app: str | None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, role in entries.roles.items():
        if role.active:
            found[next(iter(role.tasks), of_app or GENERAL)].append(name)
    return found
