"""Where an endpoint redirects to, and which `base_url` leads there at once.

A live check follows none: each is a call more than was told, and the answer is of another address
than the one that is looked at.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import httpx

from router.endpoints.base_url import check_base_url
from router.endpoints.key_pieces import cleaned, without_key
from router.net.pool import Target

OF_AZURE = re.compile(r"/openai/deployments/[^/]+/.+")
"""What Azure's calls add, in place of their dialect's path alone."""
MOST_SHOWN = 200
"""Characters of an address."""
TO_ITSELF = "see to the server, which leads nowhere; or correct base_url"
ELSEWHERE = "correct base_url: no call of this dialect ends as that address does"
ODD = "correct base_url: what it says is no address to write there"


class Redirect(NamedTuple):
    """An answer that sends a call on."""

    target: Target  # where the call went
    location: bytes  # as it was said


def told_of(redirect: Redirect, path: str, header: tuple[bytes, bytes] | None) -> tuple[str, str]:
    """Return where a redirect leads, "" where it does not say, and what to do.

    Args:
        path: what a call adds to a `base_url`.
        header: in which our key goes out, which is not shown.
    """
    target, said = redirect
    try:
        url = target.url.join(said.decode("ascii"))
        base = url.copy_with(query=None, fragment=None, username=None, password=None)
        is_whole = bool(said and url.host and url.scheme in ("http", "https"))
    except (httpx.InvalidURL, UnicodeError, ValueError, TypeError):
        is_whole = False
    if not is_whole:
        return "", "correct base_url: it says no address that it redirects to"
    there = _shown(str(base), header)
    if url.copy_with(fragment=None) == target.url:
        return there, TO_ITSELF
    called = OF_AZURE.search(target.url.path)
    before, ending, rest = str(base).rpartition(called[0] if called else f"/{path}")
    if not ending or rest:
        return there, ELSEWHERE
    if not _is_base_url(before) or _shown(before, header) != before:
        return there, ODD
    own = "" if url.host == target.url.host else ", if that host is to have your key and prompts"
    return there, f"write base_url: {before}{own}"


def _is_base_url(address: str) -> bool:
    try:
        return bool(check_base_url(address))
    except ValueError:
        return False


def _shown(address: str, header: tuple[bytes, bytes] | None) -> str:
    shown = cleaned(without_key(address, header))
    return shown if len(shown) <= MOST_SHOWN else f"{shown[: MOST_SHOWN - 1]}…"
