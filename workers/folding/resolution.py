"""What a reference was found to mean: written down before anything is sent, kept for a while after.

So whoever goes on after a crash sends the same feedback to the same decisions; and a decision that
had been made by then, but came in later, is told from those that were known.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from telemetry.events import Flag, Match
from telemetry.references import MAX_REFERENCES, choose, first_after, is_cut, is_full, up_to
from telemetry.tokens import decided_at_ms, nonce_of, part_of

REMEMBERED_MS = 600_000
"""After it was sent: an answer that took longer came in later than anybody judged it."""


class Resolution(msgspec.Struct, array_like=True, frozen=True):
    """The decisions that one feedback means."""

    received_ms: int
    reference: bytes  # digest
    tokens: list[bytes]  # packed, of what it means; none any more once it was sent
    known: list[bytes]  # nonces of what had been decided when it was received, as far as was known
    sent_ms: int = 0  # on the store's clock; 0: not yet
    is_counted: bool = True  # of more than are kept it is not remembered which came in late
    others: list[bytes] = []
    """Of an episode, named decisions that stand for the same parts: an earlier word may have gone
    to one of them, before the first was known, and is taken back there."""

    def pack(self) -> bytes:
        """Return the value to store."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def parse(cls, value: bytes) -> Resolution:
        """Return the resolution in a stored value."""
        return msgspec.msgpack.decode(value, type=cls)

    def sent(self, now_ms: int) -> Resolution:
        """Return what is remembered of it once it was sent."""
        return Resolution(self.received_ms, self.reference, [], self.known, now_ms, self.is_counted)

    @property
    def forgotten_at_ms(self) -> int:
        """When nobody asks for it any more."""
        return self.sent_ms + REMEMBERED_MS

    def n_late(self, tokens: list[bytes]) -> int:
        """Return how many decisions had been made by then, and came in after it was found."""
        if not self.is_counted:
            return 0
        return len({nonce_of(t) for t in up_to(tokens, self.received_ms)} - {*self.known})


class WaitingFeedback(msgspec.Struct, frozen=True):
    """Feedback by reference that waits."""

    event: bytes
    record: np.void
    raw: bytes

    @property
    def reference(self) -> bytes:
        """The digest by which its decisions are named."""
        return bytes(self.record["reference"].tobytes())

    @property
    def received_ms(self) -> int:
        """When it was received; of what an earlier version left, where it says no time, the
        event's.
        """
        return int(self.record["received_at_ms"]) or int.from_bytes(self.event[:6], "big")

    def before(self, tokens: list[bytes]) -> list[bytes] | None:
        """Return which of the decisions made by then are meant; None where there were none.

        Empty where there were several and it does not say which, or more than are kept.
        """
        made = up_to(tokens, self.received_ms)
        if made and self.is_beyond(tokens):
            return []
        return choose(made, self.match) if made else None

    def why_not(self, tokens: list[bytes]) -> str:
        """Return why nothing is meant, as dead letters name it."""
        if self.is_beyond(tokens):
            return "too_many"
        return "ambiguous" if up_to(tokens, self.received_ms) else "unmatched"

    def is_beyond(self, tokens: list[bytes]) -> bool:
        """Return whether what it means is not known any more: the oldest decisions went.

        Of an episode those that are known count.
        """
        if self.match is Match.EPISODE:
            return False
        is_all = self.match is Match.ALL and is_full(tokens)
        return is_all or is_cut(tokens, self.received_ms)

    @property
    def match(self) -> Match:
        """Which of several decisions it means."""
        return Match(int(self.record["match"]))

    def after(self, tokens: list[bytes]) -> tuple[list[bytes], int]:
        """Return the decision made first after it, if there is one, and when that was.

        None where one made before was known to who took it: a store that was emptied meanwhile
        knows nothing of that one, and it is not what came later.
        """
        if int(self.record["flags"]) & Flag.KNOWN:
            return [], 0
        found = first_after(tokens, self.received_ms)
        return found, decided_at_ms(found[0]) if found else 0

    def resolution(self, meant: Sequence[bytes], tokens: list[bytes]) -> Resolution:
        """Return the resolution of what is meant among all that is known."""
        known = [nonce_of(token) for token in up_to(tokens, self.received_ms)]
        is_counted = len(known) <= MAX_REFERENCES
        if not is_counted:
            known = []
        return Resolution(
            self.received_ms,
            self.reference,
            list(meant),
            known,
            is_counted=is_counted,
            others=self._others(meant, tokens),
        )

    def _others(self, meant: Sequence[bytes], tokens: list[bytes]) -> list[bytes]:
        if self.match is not Match.EPISODE:
            return []
        nonces, parts = {*map(nonce_of, meant)}, {*map(part_of, meant)}
        made = up_to(tokens, self.received_ms)
        return [t for t in made if part_of(t) in parts and nonce_of(t) not in nonces]
