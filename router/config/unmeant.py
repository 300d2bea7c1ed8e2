"""Values that nobody can have meant, whatever the field: placeholders, and no numbers in `params`.

Nothing is filled in in the file. What stands for something else is refused with what to write.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from router.config.lines import Spots
from router.config.masking import (
    FIELDS_OF_AZURE,
    HIDDEN,
    KEYS_OF_SERVER,
    NO_KEY_HERE,
    Place,
    is_name_of_variable,
    is_secret_place,
    shown_value,
)
from router.endpoints.scalars import number_of

VARIABLE = re.compile(
    # ${NAME:-x}, ${{ secrets.NAME }}
    r"\$\{{1,2}\s?(?:env[:.]|secrets\.)?(?P<braced>\w{1,128})\s?(?:[:|][^}]{0,128})?\}"
    r"|\$(?:env:)?(?P<bare>[A-Z_][A-Z0-9_]*)"
    r"|(?:os\.environ[/.]|^\{?env[:.])(?P<called>\w{1,128})\}?"
)
"""How other programs' files name an environment variable. No part is without bound: a text may be
as long as a file."""
MUST_BE_FILLED = re.compile(
    r"\$\{[^}]{0,80}\}?|\$[A-Z_][A-Z0-9_]*|\{\{[^{}]{0,80}\}\}|<[^<>]{1,80}>|\bos\.environ\b"
)
YOUR_HOST = re.compile(r"//[^/]*\byour[-_]\w+", re.IGNORECASE)
SOURCES = frozenset({"env", "url_env", "secret_env"})
BESIDE_A_KEY = frozenset({"file", "header"}) | FIELDS_OF_AZURE


def find_unmeant(spots: Spots) -> Iterator[tuple[Place, str, str]]:
    """Yield what cannot be meant: place, value as it may be shown, hint."""
    for where, spot in spots.items():
        if spot.text is None or not where:
            continue
        hint = _hint(where, spot.text, quoted=spot.quote is not None)
        if hint:
            hidden = is_secret_place(where) and (where[-1] not in SOURCES or hint == NO_KEY_HERE)
            yield where, HIDDEN if hidden else shown_value(where, spot.shown), hint


def _hint(where: Place, text: str, *, quoted: bool) -> str | None:
    """Return what to write instead; None where the text may be meant."""
    if "params" in where[2:3] and where[0] == "endpoints":
        return _hint_of_setting(text, quoted=quoted)
    if where[0] == "tasks":  # words of prompts and names of tools: anything may be one
        return None
    found = VARIABLE.search(text)
    name = found and (found["braced"] or found["bare"] or found["called"])
    if where[-1] in SOURCES and name:
        return _hint_of_source(str(where[-1]), name)
    if is_secret_place(where) and where[-1] not in BESIDE_A_KEY:
        if found or MUST_BE_FILLED.search(text):
            return _hint_of_key(where, name)
        return None
    placeholder = MUST_BE_FILLED.search(text)
    if placeholder and name:
        return f"variables are not filled in in this file: write the value of {name} itself"
    if placeholder:
        return f"{placeholder[0]} is a placeholder: write what belongs in its place"
    if where[-1] == "base_url" and YOUR_HOST.search(text):
        return "this is an example's address; write your own"
    return None


def _hint_of_setting(text: str, *, quoted: bool) -> str | None:
    number = None if quoted else number_of(text)
    if number is not None and not math.isfinite(number):
        return "write a finite number; JSON has no other"
    found = VARIABLE.fullmatch(text)
    if found and text.startswith("${"):
        return f"variables are not filled in in this file: write the value of {found['braced']}"
    return None


def _hint_of_source(field: str, name: str) -> str:
    told = name if is_name_of_variable(name) else "NAME"
    return f"write the name alone: {field}: {told}"


def _hint_of_key(where: Place, name: str | None) -> str:
    """Return what to write where a key's source belongs."""
    if name is None or not is_name_of_variable(name):
        return NO_KEY_HERE
    at = next((str(p) for p in reversed(where) if isinstance(p, str)), "auth")
    if at == "keys":
        return f"write keys: [{{env: {name}}}]"
    is_whole = at == "auth" or at in KEYS_OF_SERVER
    return f"write {at}: {{env: {name}}}" if is_whole else f"write env: {name}"
