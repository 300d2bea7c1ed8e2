"""The books of one call: its tokens, made once, and its latest failure, held back.

A failed attempt is written once it is known whether the call ended with it. That is as soon as
another attempt begins, an answer may go to the client, or nobody is asked any more: within the
pause before a repeat at most.
"""

from __future__ import annotations

from functools import partial

from router.decision.decide import Decision
from router.decision.kinds import kind_of
from router.dispatch.booking import Booking
from router.dispatch.decision_flags import flags_of
from router.dispatch.ending import Ending
from router.dispatch.records import FINAL, NO_ENDS, UNANSWERED
from router.endpoints.catalog import Endpoint


class CallBooks:
    """Books the attempts of one call."""

    __slots__ = (
        "_booking",
        "_decision",
        "_executed",
        "_held",
        "_held_flags",
        "_id",
        "_sealed",
        "_token",
        "flags",
        "kind",
    )

    def __init__(self, booking: Booking, decision: Decision) -> None:
        self._booking, self._decision = booking, decision
        self.kind = kind_of(decision)
        self.flags = self.kind.derive(flags_of, decision)
        self._executed: Endpoint | None = None
        self._token = self._sealed = b""
        self._id = ""  # that token's seal, with it
        self._held: partial[None] | None = None
        self._held_flags = 0

    def token(self, executed: Endpoint) -> bytes:
        """Return the packed token of the call as an endpoint serves it."""
        if executed is not self._executed:
            self._token = self._booking.token(self._decision, executed, self.kind)
            self._executed = executed
        return self._token

    def id(self, executed: Endpoint) -> str:
        """Return the decision id of the call as an endpoint serves it."""
        token = self.token(executed)
        if token is not self._sealed:
            self._sealed, self._id = token, self._booking.seal.close(token)
        return self._id

    def early_id(self) -> str:
        """Return the decision id while nobody knows yet who will serve the call."""
        return self._booking.seal.close(self._booking.token(self._decision, None, self.kind))

    def write(self, token: bytes, attempt: Ending, flags: int) -> None:
        """Book how an attempt ended; what was held before it was not the last."""
        if self._held is not None:
            self.let_go()
        write, context = self._booking.write_call, self._decision.context
        if flags & FINAL or attempt.result in NO_ENDS:
            write(token, attempt, context, flags=flags)
        else:
            self._held, self._held_flags = partial(write, token, attempt, context), flags

    def let_go(self, *, unanswered: bool = False) -> None:
        """Book what is held.

        Args:
            unanswered: nobody is asked any more: the call ends with it.
        """
        held, self._held = self._held, None
        if held is not None:
            held(flags=self._held_flags | (UNANSWERED if unanswered else 0))
