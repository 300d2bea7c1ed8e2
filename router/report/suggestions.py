"""Which tasks the prompts of `general` look like, and the lines that would give them those.

Counted is what was decided under the rules that are in force: once they change, it begins anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from router.classify.starters import starter_prompts
from router.config.compiled import App, Configuration
from router.config.entries import GENERAL, Classify, MatchEntry
from router.config.flow import flow, scalar
from router.decision.prompt_tags import AppTags, PromptTags

LEAST_CALLS = 50
LEAST_SHARE = 0.1
"""Below these nothing is said: it may be chance, or not worth a line."""
MOST = 0.9
"""Of calls: with so many it is as good as all."""
HALF = 0.5
PHRASE = "a phrase of that system prompt"
"""Stands for one that only the user knows: of prompts digests are kept."""
NO_LINE = {"under": None, "line": None, "yaml": None}


def suggestion_rows(
    found: dict[str, Any] | None, configuration: Configuration
) -> list[dict[str, Any]]:
    """Return a row for each app and task that many of its calls look like, most first.

    Of what the configuration does not have any more, and of apps that want none, nothing is said.

    Args:
        found: as the job left it.
    """
    counted = _Counted(found or {}, configuration)
    rows = []
    for app in configuration.apps.values():
        tags, by_tag = counted.of(app)
        n = sum(one["calls"] for one in by_tag.values())
        if app.entry.classify is Classify.OFF or n < LEAST_CALLS:
            continue
        too_long = by_tag.get(tags.unread, {"calls": 0})["calls"]
        for tag, own in by_tag.items():
            task, share = tags.tasks[tag], own["calls"] / n
            if task == GENERAL or share < LEAST_SHARE:
                continue
            head = {"app": app.name, "task": task, "calls": own["calls"], "of": n}
            advice = _advice(own, task, app, counted)
            rows.append({**head, "too_long": too_long, "share": share, **advice})
    return sorted(rows, key=lambda row: (-row["calls"], row["app"], row["task"]))


def suggestion_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each row, and below it, indented, the YAML that it speaks of."""
    for row in rows:
        long = f", {row['too_long']} of them too long to be looked at" if row["too_long"] else ""
        yield (
            f"{row['share']:.0%} of {GENERAL} looks like {row['task']} ({row['calls']} of "
            f"{row['of']} first calls of app {row['app']}{long}): {row['advice']}"
            + (":" if row["yaml"] else "")
        )
        yield from (f"  {line}" for line in (row["yaml"] or "").splitlines())


class _Counted:
    """What the job left, read under a configuration."""

    def __init__(self, found: dict[str, Any], configuration: Configuration) -> None:
        self.configuration = configuration
        self._apps: dict[str, Any] = found.get("apps", {})
        self._prompts: dict[str, Any] = found.get("prompts", {})
        self._tags = configuration.derive(PromptTags)

    def of(self, app: App) -> tuple[AppTags, dict[int, dict[str, Any]]]:
        """Return an app's tags, and what is counted under them; nothing of others."""
        tags = self._tags.of(app)
        by_tag = self._apps.get(f"{app.digest:016x}", {})
        known = {tag: by_tag.get(f"{tag:016x}") for tag in tags.tasks}
        return tags, {tag: own for tag, own in known.items() if own is not None}

    def is_tasks_own(self, prompt: str | None, task: str) -> bool:
        """Return whether hardly any call has a system prompt but such as look like a task, or are.

        All apps count: a rule is for all of them. Later turns of `general` go with their first.
        """
        who = self._prompts.get(prompt or "")
        if who is None:
            return False
        alike = unlike = 0
        mine = set[str]()
        for app in self.configuration.apps.values():
            mine |= {f"{app.categories[name]:016x}" for name in self._going_with(task)}
            for tag, n in who["first"].get(f"{app.digest:016x}", {}).items():
                said = self._tags.of(app).tasks.get(int(tag, 16))
                alike += n if said == task else 0
                unlike += n if said not in (task, None) else 0
        unlike += sum(n for category, n in who["elsewhere"].items() if category not in mine)
        return bool(alike >= MOST * (alike + unlike))

    def _going_with(self, task: str) -> Iterator[str]:
        """Yield the names under which calls are booked that a rule for a task would not move."""
        yield from (GENERAL, task)
        for leaf, above in self.configuration.leaves.items():
            if above == task and leaf in self.configuration.tasks:
                yield leaf


def _advice(own: Mapping[str, Any], task: str, app: App, counted: _Counted) -> dict[str, Any]:
    """Return what would give such calls their task, and the lines of the file, where it is some."""
    n, match = own["calls"], dict(counted.configuration.rules).get(task)
    shares_prompt = own["prompted"] >= MOST * n and counted.is_tasks_own(own["prompt"], task)
    if shares_prompt and _is_of_system(match):
        return _of_prompt(task, match)
    if app.entry.locked:
        return {**NO_LINE, "advice": f"have callers say x-router-task: {task}"}
    in_sessions = own["sessions"] >= HALF * n
    if app.entry.classify is Classify.SUGGEST:
        words = f"add to the configuration ({_how_right(task, counted.configuration)})"
        if not in_sessions:
            ids = f"have callers say x-router-task: {task}; or have them say x-router-session-id"
            words = f"{ids}, and add to the configuration"
        return _of_route(app, words)
    ids = "" if in_sessions else "x-router-session-id, or "
    return {**NO_LINE, "advice": f"have callers say {ids}x-router-task: {task}"}


def _how_right(task: str, configuration: Configuration) -> str:
    """Return who says how often a guess is right: shipped exemplars are nobody's own prompts."""
    if list(configuration.prompts.texts.get(task, ())) == starter_prompts().get(task):
        return "by shipped exemplars; `pointsman classify FILE` says how well yours are told apart"
    return "`pointsman classify` says how often that is right"


def _is_of_system(match: MatchEntry | None) -> bool:
    """Return whether a phrase of a system prompt may be added to a rule, and makes it hold."""
    return match is None or match.model_fields_set == {"system"}


def _of_prompt(task: str, match: MatchEntry | None) -> dict[str, Any]:
    known = (match.system or []) if match is not None else []
    words = "they share a system prompt, which hardly any other has; add to the configuration"
    line = f"match: {flow({'system': [*known, PHRASE]})}"
    lines = _lines(("tasks", task), line, instead="match" if known else None)
    return {**lines, "advice": f"{words}, with a phrase of it"}


def _of_route(app: App, words: str) -> dict[str, Any]:
    is_said = "classify" in app.entry.model_fields_set
    lines = _lines(("apps", app.name), "classify: route", instead="classify" if is_said else None)
    return {**lines, "advice": words}


def _lines(under: tuple[str, str], line: str, *, instead: str | None) -> dict[str, Any]:
    """Return a line and where it stands, and both as YAML that can be pasted as it is.

    Args:
        instead: the field whose line is there already.
    """
    section, name = under[0], scalar(under[1])
    where = f"if `{name}:` is there already, this line alone goes below it, or into its braces"
    if instead is not None:
        where = f"in place of what `{name}:` has as `{instead}`"
    yaml = f"{section}:\n  {name}:\n    {line}  # {where}"
    return {"under": list(under), "line": line, "yaml": yaml}
