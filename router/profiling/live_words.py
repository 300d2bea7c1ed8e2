"""What is wrong with an endpoint that cannot be used, and what to do, in words.

Whatever a provider says stands on one line and in so many characters. It comes here without our
key: what is cut first may be cut within it.
"""

from __future__ import annotations

from router.dispatch.stream import SILENT, UNREADABLE
from router.endpoints.key_pieces import cleaned

MOST_SAID = 240
"""Characters of what a provider says."""
LATER = "look again later"
IN_WORDS = {
    "rate_limit": ("it takes no more calls now (429)", "wait, or have the key's limits raised"),
    "timeout": ("no answer came in time", "see whether it is up, and not too slow"),
    "connect": ("no connection", "see whether it is up, and correct base_url"),
    "server": ("it fails by itself", LATER),
    "cut": ("its answer ended before its end", LATER),
    "endless": ("its answer has no end", "see what answers there, and correct base_url"),
    "bad_reply": (
        "what it answers is no answer of its dialect",
        "correct the path in base_url, or `dialects`",
    ),
}
"""By the name of a result: what is wrong, and what to do."""
AN_ERROR = "it answers with an error", "see to what it says, or look again later"
OURS = ("no_eligible_endpoint", "tool_not_allowed", "keeps_content")
"""Codes of what our own rules refuse."""
STREAM_CUT = "stream_cut"


def in_short(text: str) -> str:
    """Return what a provider says on one line, as far as it helps."""
    shown = cleaned(text)
    return shown if len(shown) <= MOST_SAID else f"{shown[: MOST_SAID - 1]}…"


def with_words(reason: str, said: str) -> str:
    """Return a reason with what a provider says of it, where it says something."""
    shown = in_short(said)
    return f"{reason}: {shown}" if shown else reason


def why_cut(said: str, seconds: float) -> tuple[str, str]:
    """Return why a stream ended before its end, from what our sidecar tells of it, and the fix.

    Args:
        seconds: as long as an answer is waited for.
    """
    why, _, _ = said.partition(";")
    if why == SILENT:
        return no_answer_in(seconds)
    reason, fix = IN_WORDS["bad_reply" if why == UNREADABLE else "cut"]
    return with_words(reason, why), fix


def no_answer_in(seconds: float) -> tuple[str, str]:
    """Return that no answer came in time, and the fix."""
    return f"no answer in {seconds:g} s", IN_WORDS["timeout"][1]
