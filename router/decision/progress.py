"""How far sessions are: calls so far, and what their provider said to have cached at last.

What one process saw of it, of the sessions used last: who knows nothing of one does not end its
draw for gain.
"""

from __future__ import annotations

import struct

from msgspec import Struct

from router.decision.context import CallContext
from router.decision.recent import RecentlyUsed
from telemetry.wire.usage import Usage

MAX_KNOWN = 65_536
"""Units and sessions; each of them takes less than 250 bytes."""
_KNOWN = struct.Struct("<3I")
_MOST = 2**32 - 1


class UnitProgress(Struct, frozen=True, gc=False):
    """How far a session is, as one of its units sees it."""

    calls: int  # of the unit that were answered
    session_calls: int  # of the whole session, whatever task or role
    cached_tokens: int  # of the last answer's prompt, as its provider reported
    prompt_tokens: int  # of that answer


class SessionProgress:
    """What this process saw of sessions."""

    def __init__(self, most: int = MAX_KNOWN) -> None:
        self._known = RecentlyUsed(most)

    def note(self, context: CallContext, usage: Usage | None) -> None:
        """Count a call that was answered.

        Args:
            usage: None where the answer did not say; then what was said before holds.
        """
        unit = context.unit
        if unit.key is None or not unit.is_session:
            return
        calls, cached, prompt = _KNOWN.unpack(self._known.get(unit.key) or bytes(_KNOWN.size))
        if usage is not None:
            cached, prompt = min(usage.cached_tokens, _MOST), min(usage.prompt_tokens, _MOST)
        self._known.put(unit.key, _KNOWN.pack(calls + 1, cached, prompt))
        key = context.session.key
        so_far, *_ = _KNOWN.unpack(self._known.get(key) or bytes(_KNOWN.size))
        self._known.put(key, _KNOWN.pack(so_far + 1, 0, 0))

    def of(self, context: CallContext) -> UnitProgress | None:
        """Return how far a call's session is; None where this process saw nothing of it."""
        key = context.unit.key
        found = self._known.get(key) if key is not None else None
        if found is None:
            return None
        calls, cached, prompt = _KNOWN.unpack(found)
        whole = self._known.get(context.session.key)
        all_calls = _KNOWN.unpack(whole)[0] if whole is not None else calls
        return UnitProgress(calls, max(all_calls, calls), cached, prompt)
