"""The table of a profile as one page."""

from __future__ import annotations

from html import escape

from router.profiling.table import ProfileTable, lines_of


def html_of(table: ProfileTable) -> str:
    """Return the page."""
    return f"<pre>{escape(chr(10).join(lines_of(table)))}</pre>"
