"""Streams in a coding that nobody here can undo: they pass as the bytes that came."""

from __future__ import annotations

from router.dialects.sse import ChatStream


class UnreadStream(ChatStream):
    """A stream of which only its connection tells whether it came to its end.

    Nothing is ever added to it: no client could read what stands between its bytes.
    """

    def __init__(self) -> None:
        super().__init__(hide_usage=False)
        self.spoke = True

    def feed(self, data: bytes) -> bytes:
        """Return what came."""
        return data

    def flush(self) -> bytes:
        """Nothing is ever held back."""
        return b""

    def is_whole(self, *, ended_well: bool) -> bool:
        """Return whether the connection came to its proper end."""
        return ended_well
