"""Credit for a whole that is given wrongly on purpose, so that it shows whether anybody notices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from unittest.mock import patch

from router.dispatch.episodes import NamedEpisodes
from workers.folding import resolution


class CreditSabotage(StrEnum):
    """How the word on a whole is credited."""

    LAST = "last"  # to the last decision only
    EACH = "each"  # to every decision: a part counts as often as it was called


@contextmanager
def sabotaged(kind: CreditSabotage | None) -> Iterator[None]:
    """Credit wrongly, as long as this lasts."""
    match kind:
        case None:
            yield
        case CreditSabotage.LAST:
            with patch.object(resolution, "choose", lambda tokens, _: tokens[-1:]):
                yield
        case CreditSabotage.EACH:
            with (
                patch.object(NamedEpisodes, "is_first", lambda *_: True),
                patch.object(resolution, "choose", lambda tokens, _: tokens),
            ):
                yield
