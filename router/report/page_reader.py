"""The page of a running sidecar, read from its store. Waits for that, so ask it in a thread."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from router.beliefs.beliefs import Beliefs
from router.beliefs.keeper import Keeper
from router.config.compiled import App
from router.policy.standing import usual_strategy
from router.report.face.desk import FoundPage
from router.report.gather import Report, ReportSource, fill
from router.report.page_wish import PageWish
from telemetry.reader import NO_RATERS
from telemetry.store import Address, connect

TIMEOUT_S = 10.0
"""Of one round trip."""
NAMELESS = "this sidecar"


class PageReader:
    """Makes pages of what a process believes and what lies in its store."""

    def __init__(
        self, address: Address, keeper: Keeper, file: Path | None, *, name: str = NAMELESS
    ) -> None:
        """Read nothing yet.

        Args:
            file: what the configuration was read from.
            name: of this process, among the routers of its store.
        """
        self._address, self._keeper, self._file, self._name = address, keeper, file, name

    def read(self, beliefs: Beliefs, wish: PageWish, own: App | None) -> FoundPage:
        """Return the page, and the tasks that were asked for.

        Args:
            own: whose page alone it is; None: everybody's.

        Raises:
            StoreErrors: the store is away.
        """
        source = ReportSource(
            beliefs=beliefs,
            strategy=wish.strategy or usual_strategy(beliefs.configuration),
            wish=wish,
            switch=self._keeper.switch,
            raters=NO_RATERS,
            file=self._file,
            this_router=self._name,
            sees_all=own is None,
            with_rows=False,
        )
        report = Report()
        with closing(connect(self._address, timeout_s=TIMEOUT_S)) as client:
            fill(report, client, source)
        assert report.page is not None  # `fill` makes it, or raises
        return FoundPage(report.page, tuple(report.details))
