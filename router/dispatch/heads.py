"""What the head of an answer is worth reading for: told by the names in it, of which few differ."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from router.endpoints.headroom import MARK
from router.net.answer import Header
from telemetry.wire.costs import COST_HEADER, TIER_HEADER

MAX_KINDS = 128
"""Kinds of answers by the names in their heads: a few for each provider."""


_NAME = itemgetter(0)


class HeadContents(NamedTuple):
    """What stands in a head, by the names of its headers."""

    has_coding: bool
    tells_limits: bool  # of the endpoint
    tells_cost: bool  # or the service tier


def contents_of(headers: Sequence[Header]) -> HeadContents:
    """Return what stands in a head; its names are in lower case."""
    return _contents(tuple(map(_NAME, headers)))


@lru_cache(MAX_KINDS)
def _contents(names: tuple[bytes, ...]) -> HeadContents:
    return HeadContents(
        has_coding=b"content-encoding" in names,
        tells_limits=any(MARK in name for name in names),
        tells_cost=COST_HEADER in names or TIER_HEADER in names,
    )
