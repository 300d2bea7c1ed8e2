"""The page, a task and a decision as documents that need nothing from elsewhere. Pure.

One template makes the file and the live page; every word in it is escaped. The file has no script,
and the live page works without its own.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from bandit.report import Page
from bandit.task_detail import MOST_CURVES, TaskDetail
from router.report.face import figures, rows
from router.report.face.decision import DecisionView

HERE = files(__package__ or "router.report.face")
STYLE = HERE.joinpath("page.css").read_text("utf-8").replace("\n", "")
SCRIPT = HERE.joinpath("page.js").read_text("utf-8")
"""Of the live page: it puts what changed in its place."""
STYLE_HASH = f"'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"
NOTHING_ELSE = f"default-src 'none'; style-src {STYLE_HASH}; img-src data:"
FILE_POLICY = f"{NOTHING_ELSE}; base-uri 'none'; form-action 'none'"
LIVE_POLICY = (
    f"default-src 'none'; style-src {STYLE_HASH}; img-src 'self' data:; script-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

MOST_LIVE = 120
"""Endpoints of a task that is opened alone."""


def page_html(page: Page, details: Sequence[TaskDetail] = (), *, is_live: bool = False) -> str:
    """Return a page as a document.

    Args:
        details: what opens below its tasks; on the live page tasks open on pages of their own.
        is_live: it is asked for again and again, rather than kept.
    """
    return TEMPLATE.render(
        kind="page",
        is_live=is_live,
        title="Pointsman" if is_live else f"Pointsman, {figures.day(page.at_ms)}",
        page=page,
        rows=rows.task_rows(page, details, is_live=is_live),
        routers=rows.router_rows(page.routers),
        most_changes=rows.MOST_CHANGES,
        names_app=rows.names_app(page),
    )


def task_html(page: Page, details: Sequence[TaskDetail]) -> str:
    """Return a task of the live page as a document: its endpoints, the best first.

    Args:
        details: at least one; several where apps, roles or strategies have the task.
    """
    most = MOST_LIVE if len(details) == 1 else MOST_CURVES
    opened = [
        (rows.task_words(d.line), rows.task_basis(d.line), d.line, rows.matrix(d, most=most))
        for d in details
    ]
    title = f"{details[0].line.task}, Pointsman"
    return TEMPLATE.render(kind="task", is_live=True, title=title, page=page, opened=opened)


def decision_html(view: DecisionView) -> str:
    """Return an explanation as a document: its sentence, and what follows it."""
    title = "Decision, Pointsman"
    return TEMPLATE.render(kind="decision", is_live=False, has_header=True, title=title, view=view)


def _finalized(value: Any) -> Any:
    """Return a value as it is shown: what anybody wrote is one line.

    What a filter made is clean, and as long as it is meant to be.
    """
    return figures.shown(value, figures.MOST_OF_SENTENCE) if type(value) is str else value


def _told(text: str) -> Markup:
    """Return words in which what stands between backticks is a command."""
    parts = figures.sentence(text).split("`")
    if len(parts) % 2 == 0:  # one is left open: it is a word like others
        return escape("`".join(parts))
    told = [Markup("<code>{}</code>").format(part) if i % 2 else escape(part)
            for i, part in enumerate(parts)]  # fmt: skip
    return Markup("").join(told)


def _environment() -> Environment:
    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"has_header": False, "style": Markup(STYLE), "policy": Markup(FILE_POLICY)}  # noqa: S704 - ours
    made.filters |= {
        "svg": Markup,  # drawn here, of figures alone
        "fixed": "{:.2f}".format,
        "count": figures.count,
        "money": figures.money,
        "points": figures.points,
        "quality": figures.quality,
        "share": figures.share,
        "told": _told,
        "seconds": figures.seconds,
        "moment": figures.moment,
        "since": figures.since,
        "stamp": figures.stamp,
        "basis": rows.basis,
        "budget": rows.budget_words,
    }
    return made


TEMPLATE = _environment().from_string(HERE.joinpath("page.html").read_text("utf-8"))
