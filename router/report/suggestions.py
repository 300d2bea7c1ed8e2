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
    """Yield a line for each row."""
    for row in rows:
        yield (
            f"{row['share']:.0%} of {GENERAL} looks like {row['task']} ({row['calls']} of "
            f"{row['of']} first calls of app {row['app']}): {row['advice']}"
        )


def _advice(
    own: dict[str, int], task: str, app: App, configuration: Configuration
) -> dict[str, Any]:
    """Return what would give such calls their task, and the line of the file, where it is one."""
    n, match = own["calls"], dict(configuration.rules).get(task)
    shares_prompt = own["prompted"] >= MOST * n and own["prompted"] >= MOST * own["prompted_of"]
    if shares_prompt and _is_of_system(match):
        line = f'tasks.{task}.match: {{system: ["…"]}}'
        words = "they share a system prompt, which hardly any other has; add this line, with a "
        return {"line": line, "advice": f"{words}phrase of it: {line}"}
    if app.entry.classify is Classify.SUGGEST and not app.entry.locked:
        line = f"apps.{app.name}.classify: route"
        if own["sessions"] >= HALF * n:
            words = "`pointsman classify` says how often that is right"
            return {"line": line, "advice": f"add this line: {line} ({words})"}
        words = f"have callers say x-router-task: {task}, or x-router-session-id, and add this line"
        return {"line": line, "advice": f"{words}: {line}"}
    return {"line": None, "advice": f"have callers say x-router-task: {task}"}


def _is_of_system(match: MatchEntry | None) -> bool:
    """Return whether a phrase of a system prompt may be added to a rule, and makes it hold."""
    return match is None or match.model_fields_set == {"system"}
