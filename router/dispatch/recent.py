"""What this process lately knew to be named by an answer's id or a caller's reference.

The store learns of a decision once its outcome is folded. Who wrote the outcome need not wait for
that to say that a reference means several decisions.
"""

from __future__ import annotations

from collections import OrderedDict

from telemetry.references import append, names_in, split, token_in

MAX_NAMES = 20_000
"""About 7 MB. At a hundred calls a second these are the names of the last minute or two, and what
is older is folded."""


class RecentNames:
    """Names of this process's own decisions; the oldest go."""

    def __init__(self, most: int = MAX_NAMES) -> None:
        self._most = most
        self._tokens: OrderedDict[bytes, bytes] = OrderedDict()  # digest -> packed, back to back

    def note(self, outcome: bytes) -> None:
        """Remember what a record that was written says its decision may be named by."""
        known = self._tokens
        for digest in names_in(outcome):
            known[digest] = append(known.pop(digest, None), token_in(outcome))
            if len(known) > self._most:
                known.popitem(last=False)

    def of(self, digest: bytes) -> list[bytes]:
        """Return the packed tokens of the decisions that a name means, as far as is remembered."""
        return split(self._tokens.get(digest, b""))
