"""Which tasks the prompts of `general` look like, and the line that would give them those."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from router.config.compiled import App, Configuration
from router.config.entries import GENERAL, Classify, MatchEntry
from router.decision.guessing import tags

LEAST_CALLS = 50
LEAST_SHARE = 0.1
"""Below these nothing is said: it may be chance, or not worth a line."""
MOST = 0.9
"""Of calls: with so many it is as good as all."""
HALF = 0.5


def suggestion_rows(
    found: dict[str, Any] | None, configuration: Configuration
) -> list[dict[str, Any]]:
    """Return a row for each app and task that many of its calls look like, most first.

    Of what the configuration does not have any more, and of apps that want none, nothing is said.

    Args:
        found: as the job left it.
    """
    names = {f"{digest:016x}": name for name, digest in configuration.derive(tags).items()}
    apps = {f"{app.digest:016x}": app for app in configuration.apps.values()}
    rows = []
    for digest, counts in (found or {}).get("apps", {}).items():
        app = apps.get(digest)
        if app is None or app.entry.classify is Classify.OFF or counts["calls"] < LEAST_CALLS:
            continue
        for tag, own in counts["tags"].items():
            task, share = names.get(tag, GENERAL), own["calls"] / counts["calls"]
            if task == GENERAL or share < LEAST_SHARE:
                continue
            head = {"app": app.name, "task": task, "calls": own["calls"], "of": counts["calls"]}
            rows.append({**head, "share": share, **_advice(own, task, app, configuration)})
    return sorted(rows, key=lambda row: (-row["calls"], row["app"], row["task"]))


def suggestion_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each row, and the lines of YAML that it speaks of."""
    for row in rows:
        yield (
            f"{row['share']:.0%} of {GENERAL} looks like {row['task']} ({row['calls']} of "
            f"{row['of']} first calls of app {row['app']}): {row['advice']}"
            + (":" if row["yaml"] else "")
        )
        yield from (f"  {line}" for line in (row["yaml"] or "").splitlines())


def _advice(
    own: dict[str, int], task: str, app: App, configuration: Configuration
) -> dict[str, Any]:
    """Return what would give such calls their task, and the line of the file, where it is one."""
    n, match = own["calls"], dict(configuration.rules).get(task)
    shares_prompt = own["prompted"] >= MOST * n and own["prompted"] >= MOST * own["prompted_of"]
    if shares_prompt and _is_of_system(match):
        words = "they share a system prompt, which hardly any other has; add to the configuration"
        return _of_line(f"{words}, with a phrase of it", ("tasks", task), 'match: {system: ["…"]}')
    if app.entry.classify is Classify.SUGGEST and not app.entry.locked:
        words = "add to the configuration (`pointsman classify` says how often that is right)"
        if own["sessions"] < HALF * n:
            ids = f"have callers say x-router-task: {task}; or have them say x-router-session-id"
            words = f"{ids}, and add to the configuration"
        return _of_line(words, ("apps", app.name), "classify: route")
    return {"line": None, "yaml": None, "advice": f"have callers say x-router-task: {task}"}


def _of_line(advice: str, under: tuple[str, str], line: str) -> dict[str, Any]:
    """Return advice with its line, and the same as YAML that can be copied."""
    section, name = under
    yaml = f"{section}:\n  {name}:\n    {line}"
    return {"line": f"{section}.{name}.{line}", "yaml": yaml, "advice": advice}


def _is_of_system(match: MatchEntry | None) -> bool:
    """Return whether a phrase of a system prompt may be added to a rule, and makes it hold."""
    return match is None or match.model_fields_set == {"system"}
