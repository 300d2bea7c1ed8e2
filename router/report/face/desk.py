"""The live page of a running sidecar: at `/`, a task at `/task/NAME`, a decision at `/decision/ID`.

A page is made in a thread, one at a time, and kept for a few seconds: however many watch it, calls
do not wait. Where the store is away, the last one is shown with its time, or else what is known.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from bandit.report import Page, PageTrouble, VerdictLine
from bandit.task_detail import TaskDetail
from bandit.verdict import Basis, Verdict, VerdictKind
from router.beliefs.beliefs import Beliefs
from router.config.compiled import App, Configuration
from router.explain.desk import ExplainDesk
from router.net.exchange import Exchange
from router.policy.callers import Keys
from router.report.face import figures
from router.report.face.decision import decision_view
from router.report.page_wish import PageWish, page_wish_in, require_known
from router.report.report_desk import of_app
from telemetry.store import StoreErrors
from telemetry.trouble import trouble_of

TASK, DECISION, SCRIPT = "/task/", "/decision/", "/page.js"
PAGE_PATHS = ("/", SCRIPT)
OPENED = (TASK, DECISION)
"""Beginnings of the other paths."""
KEPT_FOR_S = 3.0
MOST_KEPT = 32
HTML = (b"content-type", b"text/html; charset=utf-8")
GUARDED = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


@dataclass(frozen=True, slots=True)
class FoundPage:
    """A page, and the tasks of it that were opened."""

    page: Page
    details: tuple[TaskDetail, ...] = ()


PageOf = Callable[[Beliefs, PageWish, App | None], FoundPage]
"""Makes a page; whose app's own, or everybody's. It waits for the store, and may raise
`StoreErrors`."""


@dataclass(frozen=True, slots=True)
class KeptPage:
    """A document, and when it was made."""

    made_at_s: float  # of a steady clock: when it was done, however long it took
    of: Configuration
    html: bytes
    found: FoundPage | None = None  # None: of a page that had to do without the store


class PageDesk:
    """Answers browsers; one for the process."""

    def __init__(
        self,
        page_of: PageOf,
        explain: ExplainDesk,
        *,
        is_off: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make nothing yet."""
        self._page_of, self._explain, self._is_off, self._clock = page_of, explain, is_off, clock
        self._turn = asyncio.Semaphore(1)
        self._kept: dict[tuple[str, bytes, str | None], KeptPage] = {}
        self._away: tuple[float, str] | None = None  # when the store did not answer last, and why

    async def tell(self, exchange: Exchange, beliefs: Beliefs) -> None:
        """Answer one request.

        Raises:
            RequestRejected: the key may not see that, or what is asked for cannot be meant.
        """
        if exchange.path == SCRIPT:
            await self._script(exchange)
            return
        keys, path = beliefs.configuration.derive(Keys), exchange.path
        own = keys.app_or_admin(exchange.headers)
        if path.startswith(DECISION):
            keys.require_admin(exchange.headers)
            name, of = path.removeprefix(DECISION), beliefs.configuration
            found = await asyncio.to_thread(self._explain.explain, name, of)
            html = await asyncio.to_thread(_decision, found)
        else:
            html = await self._page(path, exchange.query, beliefs, own)
        await _send(exchange, html)

    async def _page(self, path: str, query: bytes, beliefs: Beliefs, own: App | None) -> bytes:
        wish, of = _wish(path, query, beliefs, own), beliefs.configuration
        key = path, query, own.name if own else None
        async with self._turn:
            kept = self._kept.pop(key, None)
            if kept is None or kept.of is not of or self._is_past(kept.made_at_s):
                html, found = await asyncio.to_thread(self._made, path, wish, beliefs, own, kept)
                kept = KeptPage(self._clock(), of, html, found)
            self._kept[key] = kept  # the last is the one that was asked for last
            while len(self._kept) > MOST_KEPT:
                del self._kept[next(iter(self._kept))]
        return kept.html

    def _made(
        self, path: str, wish: PageWish, beliefs: Beliefs, own: App | None, kept: KeptPage | None
    ) -> tuple[bytes, FoundPage | None]:
        """Return a document, and the page that is in it, where the store told of it.

        Nobody waits for a store that somebody has just waited for in vain.
        """
        if self._away is None or self._is_past(self._away[0]):
            try:
                found = self._page_of(beliefs, wish, own)
            except StoreErrors as error:
                self._away = self._clock(), trouble_of(error).shown
            else:
                self._away = None
                return _document(path, found), found
        last = kept.found if kept is not None else None
        return _document(path, self._without_store(wish, last, self._away[1])), last

    def _is_past(self, at_s: float) -> bool:
        """Return whether what was found then is to be looked for again."""
        return self._clock() - at_s > KEPT_FOR_S

    def _without_store(self, wish: PageWish, last: FoundPage | None, why: str) -> FoundPage:
        """Return the last page, with its time, or one that has nothing but the trouble."""
        trouble, now_ms = PageTrouble(f"the store is away: {why}"), int(time.time() * 1000)
        if last is not None:
            page = last.page
            noted = f"figures are as of {figures.since(page.at_ms, now_ms)}: the store is away"
            page = replace(
                page,
                notes=(noted, *page.notes),
                troubles=(trouble, *page.troubles),
                is_off=self._is_off(),
            )
            return replace(last, page=page)
        nothing = Verdict(kind=VerdictKind.NOT_SHOWN, basis=Basis.NOTHING)
        said = VerdictLine("Nothing can be shown: the store is away.", nothing)
        page = Page(
            now_ms, wish.since_ms, wish.scope, (said,), troubles=(trouble,), is_off=self._is_off()
        )
        return FoundPage(page)

    async def _script(self, exchange: Exchange) -> None:
        from router.report.face.html import SCRIPT as TEXT

        kind = (b"content-type", b"text/javascript; charset=utf-8")
        await exchange.respond(200, TEXT.encode(), [kind, *GUARDED])


def _wish(path: str, query: bytes, beliefs: Beliefs, own: App | None) -> PageWish:
    """Return what is asked; of an app's key that app alone.

    Raises:
        RequestRejected: it cannot be meant, or is another app's.
    """
    if path.startswith(TASK):
        given = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        query = urlencode([*given, ("task", path.removeprefix(TASK))]).encode()
    wish = page_wish_in(query, now_s=time.time())
    if own is not None:
        wish = of_app(wish, own)  # first: what others there are is not for everybody
    require_known(wish, beliefs.configuration)
    return wish


def _document(path: str, found: FoundPage) -> bytes:
    from router.report.face.html import page_html, task_html  # a template is read: once, and late

    if path.startswith(TASK) and found.details:
        return task_html(found.page, found.details).encode()
    return page_html(found.page, is_live=True).encode()


def _decision(found: dict[str, Any]) -> bytes:
    from router.report.face.html import decision_html

    return decision_html(decision_view(found)).encode()


async def _send(exchange: Exchange, html: bytes) -> None:
    from router.report.face.html import LIVE_POLICY

    policy = (b"content-security-policy", LIVE_POLICY.encode())
    await exchange.respond(200, html, [HTML, policy, *GUARDED])
