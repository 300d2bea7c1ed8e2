"""Leaves of tasks: which decide for themselves, and how far the others are from it."""

from __future__ import annotations

from typing import Any

from bandit.utility import TASK_LABELS
from router.beliefs.beliefs import Beliefs


def leaf_rows(beliefs: Beliefs) -> list[dict[str, Any]]:
    """Return each leaf that traffic tells of or that stands, by the labels that all share.

    Once more, with an `app`, by the labels of each app that goes by its own and gave some. Of a
    leaf that only a profile or a check called there is nothing to say until it stands.
    """
    return [
        {
            "task": leaf.name,
            "uses": None if leaf.stands[outlook] else leaf.above,
            "calls": leaf.calls,
            "labels": leaf.labels[outlook],
            "needs": TASK_LABELS,
            "app": app,
        }
        for leaf in beliefs.leaves
        for outlook, app in enumerate([None, *beliefs.configuration.own_apps])
        if app is None or leaf.labels[outlook]
        if leaf.stands[outlook] or leaf.calls or leaf.labels[outlook] > leaf.profiled[outlook]
    ]


def leaf_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return a line for each leaf that goes by what it is below."""
    return [
        f"{row['task']} uses {row['uses']}: {row['labels']} of {row['needs']} labels"
        + (" (of two endpoints at least)" if row["labels"] >= row["needs"] else "")
        + (f" of {row['app']} alone" if row["app"] else f", {row['calls']} calls")
        for row in rows
        if row["uses"] is not None
    ]
