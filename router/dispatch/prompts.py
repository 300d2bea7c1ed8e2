"""What is booked of a call's prompt: the version that its caller names, and what it sends to all.

Of the system prompt a digest of what stays from call to call is booked, and nothing else is kept.
Real agents put the day, paths, the state of a repository and numbers of their own into it, so that
no two are the same: words with a digit, a slash or a backslash are left out, and lines as `git`
writes them.
"""

from __future__ import annotations

from hashlib import blake2b

from router.beliefs.keeper import Keeper
from router.beliefs.prompts import prompt_digest
from router.decision.context import CallContext
from router.dialects.request import CallRequest
from router.policy.hints import Hints

MAX_KNOWN = 4096
"""Texts whose digests are remembered, by a hash of eight bytes: prompts are few, with what changes
in them fewer than calls."""
_MARK = b"0"
_MARKED = bytes.maketrans(b"0123456789/\\", _MARK * 12)
"""What a word that is left out holds becomes one mark."""
_CHANGED = frozenset(b" MADRCU?!")
"""How `git` says of a file that it changed."""
_HEX = b"abcdef" + _MARK
COMMIT = 7
"""Digits of a commit's name, at least."""


def note_version(keeper: Keeper, context: CallContext) -> None:
    """Take note of the version of its prompt that a call names, if any."""
    if context.hints.prompt is not None:
        keeper.prompts.note(context.task.name, context.caller.app.name, context.hints.prompt)


def version_digest(hints: Hints) -> int:
    """Return the digest of the version that a call names; 0: it names none."""
    return 0 if hints.prompt is None else prompt_digest(hints.prompt)


class SystemPrompts:
    """Digests of system prompts; those of texts that came before are remembered."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def digest_of(self, request: CallRequest) -> int:
        """Return four bytes, as a number, of what of a call's system prompt stays; 0 of none."""
        text = request.system()
        if not text:
            return 0
        place = hash(text)
        known = self._known.get(place)
        if known is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            known = self._known[place] = stable_digest(text)
        return known


def stable_digest(text: str) -> int:
    """Return four bytes, as a number, of what of a system prompt stays; never 0."""
    found = blake2b(digest_size=4)
    for line in text.encode("utf-8", "replace").translate(_MARKED).split(b"\n"):
        words = line.split()
        if not words or _is_of_git(line, words[0]):
            continue
        if _MARK in line:
            words = [word for word in words if _MARK not in word]
        found.update(b" ".join(words) + b"\n")
    return int.from_bytes(found.digest(), "little") or 1


def _is_of_git(line: bytes, first: bytes) -> bool:
    """Return whether a line tells of a file that changed, a commit, or which branch is which."""
    if line[2:3] == b" " and line[:2].strip() and _CHANGED.issuperset(line[:2]):
        return True
    if len(first) >= COMMIT and not first.strip(_HEX):
        return True
    return line == b"(clean)" or (b"ranch" in line and b":" in line)
