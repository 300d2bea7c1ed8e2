"""A classifier that is broken on purpose, so that it shows whether the proof notices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from unittest.mock import patch

from router.classify import classifier


class ClassifySabotage(StrEnum):
    """What is left out."""

    BOILERPLATE = "boilerplate"  # nothing is taken away
    BOUND = "bound"  # a word may say whatever it was taught
    MARGIN = "margin"  # whatever leads is said


@contextmanager
def broken(kind: ClassifySabotage | None) -> Iterator[None]:
    """Classify wrongly, as long as this lasts."""
    match kind:
        case None:
            yield
        case ClassifySabotage.BOILERPLATE:
            with patch.object(classifier, "without_boilerplate", lambda text: text):
                yield
        case ClassifySabotage.BOUND:
            with patch.object(classifier, "capped", lambda votes: votes):
                yield
        case ClassifySabotage.MARGIN:
            with patch.object(
                classifier.Likeness, "said", property(lambda likeness: likeness.task)
            ):
                yield
