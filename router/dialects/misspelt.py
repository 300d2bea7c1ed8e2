"""Names by which callers talk to us that look like a slip: refused, for a hint may hold a call.

A name that resembles none of ours is nobody's business here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import lru_cache

from router.dialects.fields import REFERENCE_KEY, ROUTER_KEYS
from router.dialects.request import BodyHints
from router.errors import RequestRejected
from telemetry.columns import meant
from telemetry.numbers import brief

OURS = b"x-router-"
HINTS = BodyHints.__struct_fields__
HELD = frozenset({"data_class", "max_cost_usd", "max_latency_ms", "explore", "dry_run", "profile"})
"""Hints that may hold a call, or keep it from being one: with others ignored it is served."""
KEY = "key"  # of an app
ANSWERED = (
    *("decision_id", "endpoint", "task", "task_found_by", "strategy", "propensity"),
    *("posterior_version", "reason", "attempts", "translated", "left_out", "relaxed", "warning"),
    "upstream_request_id",
)
"""What headers of our answers say: clients may send back what they got."""
KNOWN = frozenset((*HINTS, KEY, *ANSWERED))
HEADERS = frozenset(name.replace("_", "-").encode() for name in KNOWN)
"""Known headers, without `x-router-`."""
LIKENESS = 0.8
"""From which on a name is likely a slip: `max_cost` is .8 like `max_cost_usd`, `user_id` .73 like
`user`, and may be another's."""
N_REMEMBERED = 256
"""Names that are known to resemble none: who sends one sends it with every call."""


@lru_cache(N_REMEMBERED)
def meant_name(name: str) -> str:
    """Return the known name, with `_`, that another one looks like; "" where it looks like none."""
    plain = name.strip().lower().replace("-", "_")
    if plain in KNOWN:
        return plain
    near = difflib.get_close_matches(plain, sorted(KNOWN), n=1, cutoff=LIKENESS)
    return meant(plain, KNOWN) or next(iter(near), "")


def require_known_headers(names: Iterable[bytes]) -> None:
    """Refuse a header that looks like one of ours.

    Args:
        names: of headers of a call, in lower case, without `x-router-`.

    Raises:
        RequestRejected: `unknown_field`, with the name that was likely meant.
    """
    for name in names:
        if name not in HEADERS and (near := meant_name(name.decode("latin-1"))):
            header = f"{OURS.decode()}{name.decode('latin-1')}"
            message = f"unknown header {brief(header)}; did you mean {_header(near)}?"
            raise RequestRejected("unknown_field", message, param=header)


def require_known_keys(names: Iterable[str]) -> None:
    """Refuse a key of a body's metadata that is for us, and says what is said elsewhere.

    Raises:
        RequestRejected: `unknown_field`, with where that belongs.
    """
    for name in names:
        if name == REFERENCE_KEY or not name.startswith(ROUTER_KEYS):
            continue
        near = meant_name(name.removeprefix(ROUTER_KEYS))
        if near not in HELD and f"{ROUTER_KEYS}{near}" != REFERENCE_KEY:
            continue  # it goes no further, and nothing hangs on it
        hint = f"{brief(near)} of the body object `router`, or {_header(near)}"
        if f"{ROUTER_KEYS}{near}" == REFERENCE_KEY:
            hint = REFERENCE_KEY
        message = f"unknown key {brief(name)} in metadata; did you mean {hint}?"
        raise RequestRejected("unknown_field", message, param=f"metadata.{name}")


def _header(name: str) -> str:
    return f"{OURS.decode()}{name.replace('_', '-')}"
