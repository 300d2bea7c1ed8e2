"""Text for a terminal: cleaned, cut to a width, wrapped at blanks. Pure.

Whatever labels, names, models or errors hold comes out as text on one line: nothing that a
terminal would act upon, and no id broken in two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, chop_cells

WIDTH = 80
LEAST_WORD = 16
"""A word that does not fit is never cut to less."""
BREAK = re.compile(r" (?![-+.,\d]+\])")
"""Where a line may end: not within an interval."""


def clean(text: str) -> str:
    """Return text as it may be printed: one line, and nothing that moves a cursor or hides.

    White space is one blank; a character that no one sees is a question mark.
    """
    return " ".join(printable(text).split())


def printable(text: str) -> str:
    """Return the same with as many blanks as there are."""
    return "".join(" " if c.isspace() else c if c.isprintable() else "?" for c in text)


def cut(text: str, width: int) -> str:
    """Return text of at most so many cells; what does not fit goes from its middle."""
    if cell_len(text) <= width:
        return text
    if width < 3:
        return chop_cells(text, max(width, 1))[0]
    head = (width - 1) - (width - 1) // 2
    return f"{_first(text, head)}…{_first(text[::-1], width - 1 - head)[::-1]}"


def _first(text: str, width: int) -> str:
    taken, n = [], 0
    for character in text:
        n += cell_len(character)
        if n > width:
            break
        taken.append(character)
    return "".join(taken)


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Return text of exactly so many cells."""
    shown = cut(text, width)
    room = " " * (width - cell_len(shown))
    return room + shown if right else shown + room


def wrapped(
    text: str, *, width: int = WIDTH, first: str = "", indent: str = "", most: int = 0
) -> list[str]:
    """Return cleaned text as lines; a word is on one line, cut only where it has to be.

    Args:
        first: before the first line.
        indent: before all others.
        most: lines; where there are more, long words are cut, and the last ends with …. 0: any.
    """
    words = BREAK.split(clean(text))
    lines = _filled(words, width, first, indent, longest=width - cell_len(indent))
    if not most or len(lines) <= most:
        return lines
    lines = _filled(words, width, first, indent, longest=width // 2)
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    while cell_len(last) + 2 > width and " " in last.strip():
        last = last.rpartition(" ")[0]
    return [*lines[: most - 1], f"{last} …"]


def _filled(
    words: Sequence[str], width: int, first: str, indent: str, *, longest: int
) -> list[str]:
    lines, line, is_begun = list[str](), first, False
    for word in words:
        word = cut(word, max(longest, LEAST_WORD))
        if is_begun and cell_len(line) + 1 + cell_len(word) > width:
            lines.append(line)
            line, is_begun = indent, False
        line += f" {word}" if is_begun else word
        is_begun = True
    return [*lines, line] if line.strip() else lines


def columns(rows: Sequence[Sequence[str]], widths: Sequence[int], right: str) -> list[str]:
    """Return rows of cells as lines; `right` has an r for each column that is set to the right."""
    return [
        " ".join(
            fit(clean(cell), width, right=side == "r")
            for cell, width, side in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def widest(cells: Iterable[str]) -> int:
    """Return how many cells the widest takes."""
    return max((cell_len(clean(cell)) for cell in cells), default=0)
