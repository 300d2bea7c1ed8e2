"""The page of a running sidecar, read from its store. Waits for that, so ask it in a thread."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from bandit.report import MOST_TASKS
from router.beliefs.beliefs import Beliefs
from router.beliefs.keeper import Keeper
from router.config.compiled import App
from router.policy.standing import usual_strategy
from router.report.face.desk import FoundPage
from router.report.gather import ALL_TASKS, Report, ReportSource, fill
from router.report.page_wish import PageWish
from router.report.views import keeper_rows
from telemetry.store import Address, connect

TIMEOUT_S = 10.0
"""Of one round trip."""


class PageReader:
    """Makes pages of what a process believes and what lies in its store."""

    def __init__(self, address: Address, keeper: Keeper, file: Path | None, *, name: str) -> None:
        """Read nothing yet.

        Args:
            file: what the configuration was read from.
            name: of this router among those of the store.
        """
        self._address, self._keeper, self._file, self._name = address, keeper, file, name

    def read(self, beliefs: Beliefs, wish: PageWish, own: App | None) -> FoundPage:
        """Return the page, and the tasks that were asked for.

        Args:
            own: whose page alone it is; None: everybody's.

        Raises:
            StoreErrors: the store is away.
        """
        report = self._report(beliefs, wish, own, is_whole=False)
        assert report.page is not None  # it is made, or there is an error
        return FoundPage(report.page, tuple(report.details))

    def whole(self, beliefs: Beliefs, wish: PageWish, own: App | None) -> Report:
        """Return the report that programs read: every task and, but of one app, every endpoint.

        Raises:
            StoreErrors: the store is away.
        """
        return self._report(beliefs, wish, own, is_whole=True)

    def _report(
        self, beliefs: Beliefs, wish: PageWish, own: App | None, *, is_whole: bool
    ) -> Report:
        source = ReportSource(
            beliefs=beliefs,
            strategy=wish.strategy or usual_strategy(beliefs.configuration),
            wish=wish,
            switch=self._keeper.switch,
            raters=self._keeper.raters,
            file=self._file,
            this_router=self._name,
            sees_all=own is None,
            most_tasks=ALL_TASKS if is_whole else MOST_TASKS,
            with_rows=is_whole and own is None,
        )
        report = Report(posteriors=keeper_rows(self._keeper))
        with closing(connect(self._address, timeout_s=TIMEOUT_S)) as client:
            fill(report, client, source)
        return report
