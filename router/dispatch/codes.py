"""Codes of providers' errors as they may be shown: made of words that codes are made of, or not.

A provider may put anything into its error's code, the key or the prompt that it was sent too, and
the code goes to the log and to clients. So only words of a closed list are repeated; what is left
out is no loss, because the status says of which kind it is.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_CODE = 64
MAX_NUMBER = 5
"""Digits of a code that is a number, as some providers have them."""
WORDS = frozenset(
    """
    above access account activated ai already api argument arrearage attempts audio auth
    authentication authorization bad balance billing blocked body busy cancelled capability
    capacity change client code completion concurrency concurrent config configuration conflict
    connection content context conversion credential credentials credit data deadline decode
    denied deployment deprecated device disabled does download empty endpoint engine entity
    error exceed exceeded exception exhausted exist exists expired external failed failure file
    filter flagged forbidden format found function gateway generation gone guardrail hard
    headers id image incomplete input inspection instance insufficient internal invalid is json
    key large length limit limited loading long malformed management many max maximum media
    message messages method minute missing model moderation name network no not operation
    organization out output overloaded param parameter parameters parse payload payment
    permission plan policy precondition processing prompt provider quota rate reached ready
    region request requests required resource response responsible retry safety schema server
    service size small soft stream string subscription supported suspended system temporarily
    terminated the throttled throttling timed timeout token tokens too tool tools type
    unauthenticated unauthorized unavailable unexpected unknown unprocessable unrecognized
    unsupported upgrade upstream url usage user validation value version violation zone
    """.split()  # noqa: SIM905 - a list of words is read as one
)
"""What codes of the usual providers are made of."""
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_CODE = re.compile(r"(?:[A-Z]?[a-z]+|[A-Z]+(?![a-z])|(?<=[A-Za-z])[_. -](?=[A-Za-z]))+")


@lru_cache(maxsize=1024)
def shown_code(code: str) -> str:
    """Return a code as it may be shown; "" where any of it may be somebody's words."""
    if len(code) > MAX_CODE:
        return ""
    if code.isascii() and code.isdigit():
        return code if len(code) <= MAX_NUMBER else ""
    if not _CODE.fullmatch(code):
        return ""
    return code if all(part.lower() in WORDS for part in _PART.findall(code)) else ""
