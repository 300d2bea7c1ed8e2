"""The fields of a query, each once; what is not known is refused by field and value. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qsl

from router.config.named import did_you_mean
from router.errors import RequestRejected
from telemetry.numbers import brief

MOST_QUERY = 3000


def fields_of(query: bytes, known: Sequence[str]) -> dict[str, str]:
    """Return the fields of a query.

    Args:
        known: the fields that there are.
    Raises:
        RequestRejected: it is too long, or a field is unknown, or there twice.
    """
    if len(query) > MOST_QUERY:
        raise refused("the query", f"{len(query)} bytes", f"send {MOST_QUERY} at most", known)
    given: dict[str, str] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            fix = f"no such field{did_you_mean(name, list(known))}"
            raise refused("the query", name, fix, known)
        if name in given:
            raise refused(name, value, "there twice; send it once", known)
        given[name] = value
    return given


def refused(field: str, value: str, fix: str, known: Sequence[str]) -> RequestRejected:
    """Return the refusal of a field, with its value and what to write instead."""
    param = field if field in known else None
    return RequestRejected("invalid_request", f"{field}: {brief(value)}: {fix}", param=param)
