"""By what records say which task a first prompt looks like: a digest of it and of the rules.

What is counted under rules that are gone says nothing of those in force: it has other digests, so
that nobody needs to know when they changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct

from router.config.compiled import App, Configuration
from router.config.entries import GENERAL
from telemetry.digests import digest8


class AppTags(Struct, frozen=True):
    """The digests under one app's rules."""

    by_task: Mapping[str, int]  # `general`: looks like none
    unread: int  # of what is too long to be looked at

    @property
    def tasks(self) -> dict[int, str]:
        """By digest the task."""
        return {**{tag: name for name, tag in self.by_task.items()}, self.unread: GENERAL}


class PromptTags:
    """The digests under one configuration, by app; made where first asked."""

    def __init__(self, configuration: Configuration) -> None:
        self._tasks = tuple(configuration.tasks)
        self._rules = f"{digest8(*_rules(configuration)):016x}"
        self._said = dict[str, list[str]]()
        for place, holder in configuration.key_holders.items():
            self._said.setdefault(holder.app, []).append(f"{place} {holder.role} {holder.task}")
        self._made: dict[str, AppTags] = {}

    def of(self, app: App) -> AppTags:
        """Return the digests of an app."""
        if (made := self._made.get(app.name)) is not None:
            return made
        entry = app.entry
        said = (
            f"{entry.classify} {entry.locked} {entry.task}",
            *sorted(self._said.get(app.name, ())),
        )
        under = f"{digest8(self._rules, *said):016x}"
        by_task = {name: digest8("task", name, under) for name in self._tasks}
        made = self._made[app.name] = AppTags(by_task, digest8("too long", under))
        return made


def _rules(configuration: Configuration) -> Iterator[str]:
    """Yield all that says which task a call is of, whatever its app."""
    yield from configuration.tasks
    for name, match in configuration.rules:
        yield f"{name} {match.model_dump_json(exclude={'like'})}"
    for name, role in configuration.roles.items():
        yield f"{name} {role.entry.active} {role.entry.tasks}"
    yield configuration.systems.digest
    yield configuration.prompts.digest
