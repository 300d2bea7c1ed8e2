"""A text to what counts of it: its distinct words, and what of each is known.

A word is what stands between white space. Of each a key is kept: letters folded, punctuation at its
ends left out; of numbers, addresses, paths and code only that they are such, so that no name in
them weighs. A letter alone says nothing: with a number it would be mathematics. What is looked at
is the first and last `SIDE` words, whatever their length, so that one word more or less moves one
other word over an edge, and no more.
"""

from __future__ import annotations

import re

SIDE = 400
"""Words at each end: together some 5 kB of English."""
CHARACTERS = 48
"""Of a word, that are looked at."""
PIECES = 4
"""Of one word, that are looked at."""
EDGES = ".,;:!?…\"'`´‘’“”„«»‹›()[]{}<>*_~#|-–—/\\¿¡=+$%&@^"
_STOPPED = """
a an the and or of to in on at is are be it its this that i me my you your we our us with
hi hello hey dear please thanks thank could can would
bitte danke hallo der die das ein eine einen und oder ich mir mich du
bonjour salut merci le la les un une des et ou je
hola gracias el los las una y o yo
"""
STOP = frozenset(_STOPPED.split())
"""Say nothing by themselves: greetings, courtesy, articles."""
FENCE = re.compile(r"(?:```|~~~)([A-Za-z+#]{1,12})?")
PATH = re.compile(r"[\w.~-]*[/\\][\w./\\~-]*|[\w-]+\.(?=[A-Za-z])[A-Za-z0-9]{1,5}")
SUFFIX = re.compile(r"\.([a-z]{1,5})$")
LATEX = re.compile(r"\\[A-Za-z]{2,}|\$.+\$|\\[()\[\]]")
CODE = re.compile(r"[(){}\[\];=<>_]|::|->|[a-z][A-Z]")
FORMULA = re.compile(r"[\d)a-z][+*^=<>−×÷][\d(a-z]")
LETTERS = re.compile(r"[^\W\d_]{2,}")
MARKED = "`~\\$"
"""Begin words that may be marks, whatever comes then."""
SIGNS = {"=": "op", "+": "op", "*": "op", "^": "op", "{": "code", "}": "code", "@@": "diff"}


def words_of(text: str, side: int = SIDE) -> list[str]:
    """Return the first and last words of a text, in order; at most twice `side`."""
    first = text.split(None, side)
    if len(first) <= side:
        return first
    rest = first.pop()
    last = rest.rsplit(None, side)
    return first + (last[1:] if len(last) > side else last)


def key_of(word: str) -> str:
    """Return what of a word counts; nothing of a stop word or mere punctuation."""
    core = word[:CHARACTERS].strip(EDGES)
    if core.isalpha() and word[0] not in MARKED:
        low = core.lower()
        if low == core or low[1:] == core[1:] or core.isupper():
            return "" if low in STOP or len(low) == 1 else low
    return _odd(word[:CHARACTERS], core)


def keys_of(text: str, side: int = SIDE) -> set[str]:
    """Return the distinct keys of what is looked at of a text."""
    keys = set(map(key_of, set(words_of(text, side))))
    keys.discard("")
    return keys


def _odd(word: str, core: str) -> str:
    """Return the key of what is no plain word: of which kind it is, and the words in it."""
    if fence := FENCE.match(word):
        return "`fence " + (fence[1] or "").lower()
    if not core:
        return "`" + SIGNS[word] if word in SIGNS else ""
    if "://" in word or word.startswith("www."):
        return "`url"
    if LATEX.search(word):
        return "`latex"
    if core.isdigit() or not LETTERS.search(core):
        return "`formula" if FORMULA.search(core) else "`number"
    if "@" in core:
        return "`mail"
    low = core.lower()
    if PATH.fullmatch(core):
        suffix = SUFFIX.search(low)
        return "`path " + (suffix[1] if suffix else "")
    if CODE.search(word):
        return "`code " + " ".join(LETTERS.findall(low)[:PIECES])
    return " ".join(p for p in LETTERS.findall(low)[:PIECES] if p not in STOP)


def features_of(key: str) -> list[str]:
    """Return the features of a key: itself, and beginnings of its words.

    Beginnings stand for inflections: "translate", "translated" and "translation" share one.
    """
    if key.startswith("`"):
        mark, _, rest = key.partition(" ")
        found = [mark]
        if rest and mark != "`code":
            return [mark, key]
    else:
        found, rest = [], key
    for word in rest.split():
        found.append(word)
        n = len(word)
        if n >= 5:
            found.append("^" + word[:4])
        if n >= 7:
            found.append("^" + word[:6])
    return found
