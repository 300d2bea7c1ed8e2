"""Cells whose sums no records add up to: they count as unknown, and the log names each once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import structlog

from router.beliefs.outlooks import Outlook
from router.config.compiled import Configuration

log = structlog.get_logger()

REPAIR = "`pointsman audit state` names the row, `pointsman restore` puts it right"


class DamagedCell(NamedTuple):
    """A cell by its names."""

    category: str
    endpoint: str
    app: str | None = None  # whose own labels are damaged; None: what all share

    def row(self) -> dict[str, str]:
        """Return it as one object, without an app where there is none."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def damaged_cells(outlooks: Sequence[Outlook], configuration: Configuration) -> list[DamagedCell]:
    """Return the damaged cells of each outlook, in its order."""
    tasks, endpoints = list(configuration.task_index), configuration.catalog.endpoints
    return [
        DamagedCell(tasks[c], endpoints[arm].id, outlook.app)
        for outlook in outlooks
        for c, arm in np.argwhere(outlook.damaged).tolist()
    ]


class DamageNotices:
    """Says of each cell once, until it is sound again, that it is damaged: at its prior.

    Cells go by their names: another configuration, or a host that is split off, ends nothing.
    """

    def __init__(self) -> None:
        self._told: frozenset[DamagedCell] = frozenset()

    def tell(self, outlooks: Sequence[Outlook], configuration: Configuration) -> None:
        """Log the cells that are damaged since the last look."""
        cells = damaged_cells(outlooks, configuration)
        for cell in cells:
            if cell not in self._told:
                log.error("a cell is damaged and counts as unknown", **cell.row(), fix=REPAIR)
        self._told = frozenset(cells)
