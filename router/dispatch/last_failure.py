"""The latest failed attempt of a call: written once it is known whether the call ended with it.

That is as soon as another attempt begins, an answer may go to the client, or nobody is asked any
more: within the pause before a repeat at most.
"""

from __future__ import annotations

from functools import partial

from router.decision.context import CallContext
from router.dispatch.booking import FINAL, NO_ENDS, UNANSWERED, Booking
from router.dispatch.ending import Ending


class LastFailure:
    """Books the attempts of one call, the latest failure held back."""

    def __init__(self, booking: Booking, context: CallContext) -> None:
        self._booking, self._context = booking, context
        self._held: partial[None] | None = None
        self._flags = 0

    def write(self, token: bytes, attempt: Ending, flags: int) -> None:
        """Book how an attempt ended; what was held before it was not the last."""
        self.let_go()
        if flags & FINAL or attempt.result in NO_ENDS:
            self._booking.write_call(token, attempt, self._context, flags=flags)
        else:
            self._held = partial(self._booking.write_call, token, attempt, self._context)
            self._flags = flags

    def let_go(self, *, unanswered: bool = False) -> None:
        """Book what is held.

        Args:
            unanswered: nobody is asked any more: the call ends with it.
        """
        held, self._held = self._held, None
        if held is not None:
            held(flags=self._flags | (UNANSWERED if unanswered else 0))
