"""What is asked over HTTP: of one decision, of the last one, or of a session's."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import parse_qs

from router.config.compiled import Configuration
from router.errors import RequestRejected
from router.explain.desk import ExplainDesk
from router.net.exchange import Exchange
from router.policy.callers import Keys

NAMES = ("session", "episode")
"""One thing: an episode is a session."""


async def tell(
    exchange: Exchange, route: str, desk: ExplainDesk, configuration: Configuration, keys: Keys
) -> dict[str, Any]:
    """Return the explanation that is asked for, or the decisions of a session.

    Args:
        route: path of the route; the rest may name a decision.

    Raises:
        RequestRejected: the key may not ask, or what it asks for is not known or not kept.
    """
    own = keys.app_or_admin(exchange.headers)
    path, query = exchange.path.removeprefix(route), exchange.query
    session = asked_session(path, query)
    if session is not None:
        return await asyncio.to_thread(desk.session, session, configuration, own)
    keys.require_admin(exchange.headers)
    name = asked_name(path, query)
    if name:
        return await asyncio.to_thread(desk.explain, name, configuration)
    return await asyncio.to_thread(desk.last, configuration)


def asked_session(path: str, query: bytes) -> str | None:
    """Return the session whose decisions are asked for; None where one decision is.

    Raises:
        RequestRejected: it is there and empty, or twice, or beside a decision.
    """
    given = _read(query)
    asked = [(name, value) for name in NAMES for value in given.get(name, [])]
    if not asked:
        return None
    name, value = asked[0]
    what = None
    if len(asked) > 1:
        what = "there twice: name one session or episode"
    elif not value.strip(" \t"):
        what = "empty: name a session or episode"
    elif path.strip("/") or "id" in given:
        what = "there beside a decision: ask for one of the two"
    if what is not None:
        raise RequestRejected("invalid_request", f"{name} is {what}", param=name)
    return value.strip(" \t")


def asked_name(path: str, query: bytes) -> str:
    """Return which decision is asked about, by the rest of a path or by `id`; "" is the last one.

    Raises:
        RequestRejected: `id` is there and empty, or there twice: what it was to name is not known.
    """
    if name := path.strip("/"):
        return name
    asked = _read(query).get("id", [])
    if len(asked) > 1 or asked == [""]:
        what = "there twice" if asked[1:] else "empty"
        message = f"id is {what}; name a decision, or leave it out for the last one"
        raise RequestRejected("bad_decision_id", message, param="id")
    return "".join(asked)


def _read(query: bytes) -> dict[str, list[str]]:
    return parse_qs(query.decode("latin-1"), keep_blank_values=True)
