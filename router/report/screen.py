"""Where tables are printed, and how wide they are."""

from __future__ import annotations

from rich.console import Console

PIPE_WIDTH = 120


def console() -> Console:
    """Return where reports are printed: as wide as the terminal, wide enough in a pipe."""
    found = Console()
    return found if found.is_terminal else Console(width=PIPE_WIDTH)
