"""What this process lately knew to be named by an answer's id or a caller's reference.

The store learns of a decision once its outcome is folded. Who wrote the outcome need not wait for
that to say that a reference means several decisions.
"""

from __future__ import annotations

from collections import OrderedDict

from router.dispatch.episodes import NamedEpisodes
from telemetry.references import append, episode_named_by, names_in, token_in, tokens_in

MAX_NAMES = 20_000
"""At a hundred calls a second the names of the last minute or two; what is older is folded."""
MAX_BYTES = 8 << 20
"""Of their tokens: three times what as many names of one decision each take. One name may mean a
hundred."""


class RecentNames:
    """Names of this process's own decisions; the oldest go."""

    def __init__(self, most: int = MAX_NAMES) -> None:
        self.episodes = NamedEpisodes()
        self._most = most
        self._tokens: OrderedDict[bytes, bytes] = OrderedDict()  # digest -> packed, back to back
        self._n_bytes = 0

    def note(self, outcome: bytes) -> None:
        """Remember what a record that was written says its decision may be named by."""
        token = token_in(outcome)
        if episode := episode_named_by(outcome):
            self.episodes.note(episode, token)
        for digest in names_in(outcome):
            self.note_name(digest, token)

    def note_name(self, digest: bytes, token: bytes) -> None:
        """Remember that a decision may be named so."""
        known = self._tokens
        before = known.get(digest)
        if before is None:
            known[digest] = token
            self._n_bytes += len(token)
        else:
            known.move_to_end(digest)
            known[digest] = append(before, token)
            self._n_bytes += len(known[digest]) - len(before)
        while len(known) > self._most or self._n_bytes > MAX_BYTES:
            self._n_bytes -= len(known.popitem(last=False)[1])

    def of(self, digest: bytes) -> list[bytes]:
        """Return the packed tokens of the decisions that a name means, as far as is remembered."""
        return tokens_in(self._tokens.get(digest))
