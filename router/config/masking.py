"""Keys that stand in the file by mistake: no error repeats them.

What stands where only a key or its source may stand is never shown. Anywhere else a value is
shown without what looks like a key, without the user in a URL, and without its query.
"""

from __future__ import annotations

import re

from router.endpoints.base_url import without_user
from router.errors import Problem

Place = tuple[str | int, ...]
"""Keys and list indices from the top of the file to an entry."""

HIDDEN = "…"
MAX_VALUE = 80
MAX_FIELD = 200
KEYS_OF_SERVER = frozenset({"admin_key", "seal_secret", "seal_secret_before"})
SECRET_PLACES = frozenset({"auth", "keys", "url_env", "secret_env"}) | KEYS_OF_SERVER
FIELDS = SECRET_PLACES | {"env", "file", "command", "refresh_s", "header", "azure"}
SAID_BY_KEYS = frozenset({"role", "task", "user", "data_class"})
"""What may stand beside a caller's key, and is none."""
FIELDS_OF_AZURE = frozenset({"deployment", "api_version"})
USER = re.compile(r"(?<=://)[^/?#\s'\"]*@")
QUERY = re.compile(r"(?<=://)([^?\s'\"]*\?)[^\s'\"]+")
KEY = re.compile(
    r"\b(?:(?:sk|pk|rk|gsk|xai|pplx|hf|r8|ghp|gho|glpat|nvapi|key|sess)[-_][\w.-]{8,}"
    r"|AIza[\w-]{20,}|AKIA\w{12,}|eyJ[\w.-]{16,}"
    r"|(?=\w*[a-z])(?=\w*[A-Z])(?=\w*\d)\w{24,}|[0-9a-f]{32,})"
)
"""Beginnings that providers give their keys, and long words that nobody would name a thing by."""
NO_KEY_HERE = (
    "a key never stands in this file: put it into an environment variable and name that, "
    "{env: NAME}, or into a file, {file: PATH}"
)


NO_CALLERS_KEY_HERE = (
    "a key never stands in this file: write its digest, as `pointsman key` prints it, or put it "
    "into an environment variable and name that, {env: NAME}, or into a file, {file: PATH}"
)


def no_key_at(where: Place) -> str:
    """Return what to write instead of a key at a place of the file."""
    is_callers = "keys" in where[2:3] or "admin_key" in where[1:2]
    return NO_CALLERS_KEY_HERE if is_callers else NO_KEY_HERE


def masked(text: str) -> str:
    """Return a text without what looks like a secret."""
    return KEY.sub(HIDDEN, QUERY.sub(rf"\1{HIDDEN}", USER.sub(f"{HIDDEN}@", text)))


def masked_problem(problem: Problem) -> Problem:
    """Return a problem as it may be shown: without secrets, on one line, and of some length."""
    field, value, hint = (
        _printable(masked(t)) for t in (problem.field, problem.value, problem.hint)
    )
    return Problem(problem.line, _brief(field, MAX_FIELD), _brief(value, MAX_VALUE), hint)


def _printable(text: str) -> str:
    """Return a text without what a terminal would obey, or cannot show."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _brief(text: str, most: int) -> str:
    """Return the beginning of a text; it is cut after it was masked, so no key loses its shape."""
    return text if len(text) <= most else text[: most - 1] + "…"


def is_secret_place(where: Place) -> bool:
    """Return whether a key might stand at a place of the file."""
    return any(part in SECRET_PLACES for part in where)


def shown_part(where: Place) -> Place:
    """Return a place without names that might be keys themselves."""
    for i, part in enumerate(where):
        if part in SECRET_PLACES:
            known = FIELDS | FIELDS_OF_AZURE
            rest = where[i + 1 :]
            return (*where[: i + 1], *(p for p in rest if isinstance(p, int) or p in known))
    return where


def shown_value(where: Place, value: str) -> str:
    """Return what is written at a place without user and password, of what is no URL as well."""
    value = without_user(value)
    if where[-1:] == ("base_url",) and "//" not in value and "@" in value:
        return f"{HIDDEN}@{value.rpartition('@')[2]}"
    return value


def is_name_of_variable(text: str) -> bool:
    """Return whether a text may be shown as an environment variable's name: it is no key."""
    usual = re.fullmatch(r"[A-Z_][A-Z0-9_]{0,127}|[A-Za-z_]{1,128}", text)
    return bool(usual) and masked(text) == text


def masked_reason(reason: str) -> str:
    """Return what a YAML parser says, without the words of the file that it repeats."""
    return re.sub(r"'[^'<]{4,}'", f"'{HIDDEN}'", reason)
