"""A provider's words as they may be shown: clean, on one line, and without any piece of our key.

Some repeat the key in what they refuse; one that wants it read may say it in parts, with signs
between them that no terminal shows, or in base64. So words are cleaned first, and then masked.
Who says it in pieces of less than `LEAST_PIECE`, or in a code of its own, is not found out.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

KEY = "(key)"
"""In place of ours."""
LEAST_PIECE = 12
"""Characters of a key that are masked wherever they stand."""
LEAST_KEY = 8
"""Characters; what is shorter is a word that words may hold as well, and is masked as it is."""
MOST_READ = 16_384
"""Characters of what a provider says; nobody is shown more."""
_OBEYED = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[ -/]*[0-~]")
"""What a terminal obeys and does not show (ECMA-48): sequences, and what escapes a sign."""
_IS_SHOWN: tuple[Callable[[str], bool], ...] = (lambda c: "!" <= c <= "~", str.isalnum)
"""Of which signs a piece is made: all that keys are made of; or no marks that are put between."""


def cleaned(text: str) -> str:
    """Return a text on one line, without what a terminal would obey or does not show."""
    shown = "".join(
        c if c.isprintable() else " " if c.isspace() else "" for c in _OBEYED.sub("", text)
    )
    return " ".join(shown.split())


def without_key(text: str, header: tuple[bytes, bytes] | None) -> str:
    """Return a text as it is where it holds no piece of a key; else cleaned, and without them.

    Of a long one only the beginning is returned.

    Args:
        header: in which the key goes out; None: there is none.
    """
    text, secret = text[:MOST_READ], (header or (b"", b""))[1].decode("latin-1")
    for key in dict.fromkeys((secret.removeprefix("Bearer "), secret.rpartition(" ")[2])):
        if 0 < len(key) < LEAST_KEY:
            text = text.replace(key, KEY)
    shown = cleaned(text)
    hidden = _hidden(shown, secret)
    if not hidden:
        return text
    out: list[str] = []
    for place, c in enumerate(shown):
        if place not in hidden:
            out.append(c)
        elif place - 1 not in hidden:
            out.append(KEY)
    return "".join(out)


def holds_piece(text: str, header: tuple[bytes, bytes] | None) -> bool:
    """Return whether a text holds a piece of a key, or a short one of `LEAST_KEY` whole."""
    return bool(_hidden(cleaned(text), (header or (b"", b""))[1].decode("latin-1")))


def _hidden(shown: str, secret: str) -> set[int]:
    """Return the places of a text that no one may see."""
    hidden: set[int] = set()
    for rule, is_shown in enumerate(_IS_SHOWN):
        signs, places = [], []
        for place, c in enumerate(shown):
            plain = c if c.isascii() else unicodedata.normalize("NFKC", c)
            for one in filter(str.isascii, filter(is_shown, plain)):
                signs.append(one.lower())
                places.append(place)
        read = "".join(signs)
        for size, pieces in _pieces(secret, rule).items():
            for i in range(len(read) - size + 1):
                if read[i : i + size] in pieces:
                    hidden.update(range(places[i], places[i + size - 1] + 1))
    return hidden


@lru_cache(maxsize=256)
def _pieces(secret: str, rule: int) -> dict[int, frozenset[str]]:
    """Return by their length the pieces that give a key away, in lower case."""
    found: dict[int, set[str]] = {}
    for form in _forms(secret):
        signs = "".join(filter(_IS_SHOWN[rule], form)).lower()
        # Without its marks a short key may be a word.
        if len(signs) < (LEAST_PIECE if rule else LEAST_KEY):
            continue
        size = min(LEAST_PIECE, len(signs))
        pieces = {signs[i : i + size] for i in range(len(signs) - size + 1)}
        found.setdefault(size, set()).update(pieces)
    return {size: frozenset(pieces) for size, pieces in found.items()}


def _forms(secret: str) -> list[str]:
    """Return a key as it is, in hex, and in base64 wherever it begins in what is coded."""
    scheme, _, rest = secret.partition(" ")
    key = rest if scheme.lower() in ("bearer", "basic") and rest else secret
    out = [key, key.rpartition(" ")[2], key.encode("latin-1").hex()]
    if scheme.lower() == "basic":  # user and password are what is told apart
        out += _decoded(rest)
    for coded in dict.fromkeys(out[:2] + out[3:]):
        raw = coded.encode("latin-1")
        for before in range(3):
            # What lies beside the key changes the first and the last sign.
            whole = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
            inner = whole[(0, 2, 3)[before] : (len(raw) + before) * 8 // 6]
            out += [inner, inner.replace("+", "-").replace("/", "_")]
    return list(dict.fromkeys(out))


def _decoded(coded: str) -> list[str]:
    try:
        pair = base64.b64decode(coded).decode("latin-1")
    except ValueError:
        return []
    return [pair, pair.partition(":")[2]]
