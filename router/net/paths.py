"""Paths, made one of each kind before anybody decides by them.

`/v1/chat/completions/`, `//v1/chat/completions`, `/v1/v1/chat/completions`, `/chat/completions` and
`/v1/chat%2Fcompletions` are one place for the providers behind us, so they are one for the rules.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from router.errors import RequestRejected

VERSION = "v1"
OWN = frozenset({"livez", "readyz", "metrics", "page.js", ""})
"""Paths that have no version."""
PAGES = frozenset({"task", "decision"})
"""Nor have these, with a name below."""
WORD = re.compile(r"[a-z]{1,32}(?:[_-][a-z]{1,32}){0,3}")
"""A segment that names a kind of thing; one with a digit, a capital or an @ names one of them."""


def normal_path(raw_path: bytes) -> str:
    """Return the path that a request means, decoded, beginning with `/v1/` unless it is our own.

    Raises:
        RequestRejected: it would mean something else once somebody behind us resolves it.
    """
    decoded = unquote_to_bytes(raw_path)
    try:
        path = decoded.decode()
    except UnicodeDecodeError:
        raise _devious("is not UTF-8") from None
    if "%" in path:
        raise _devious("is encoded twice")
    if "\\" in path or not path.isprintable():
        raise _devious("contains characters that no path may")
    parts = [part for part in path.split("/") if part]
    if any(part in (".", "..") for part in parts):
        raise _devious("contains '.' or '..' segments")
    if (parts[0] if len(parts) == 1 else "") in OWN and len(parts) <= 1:
        return "/" + "".join(parts)
    if len(parts) > 1 and parts[0] in PAGES:
        return "/" + "/".join(parts)
    while parts and parts[0].lower() == VERSION:
        parts.pop(0)
    return "/" + "/".join([VERSION, *parts])


def below_version(raw_path: bytes) -> str:
    """Return what follows the version, as it was encoded: for whoever it is passed on to.

    Empty segments and repeated versions are left out; each segment stays as it came.
    """
    parts = [part for part in raw_path.decode("latin-1").split("/") if part]
    while parts and parts[0].lower() == VERSION:
        parts.pop(0)
    return "/" + "/".join(parts)


def shown_path(path: str) -> str:
    """Return a path as it may be logged and booked: `*` in the place of ids.

    Ids may be names of users, and there is no end of them.
    """
    parts = path.split("/")
    return "/".join(p if not p or p == VERSION or WORD.fullmatch(p) else "*" for p in parts)


def _devious(why: str) -> RequestRejected:
    return RequestRejected("not_found", f"the path {why}")
