"""What an attempt probably used of which nobody told: so that the ledger does not call it nothing.

Refusals before an answer used nothing. Of an answer that nobody heard nothing counts as written:
how far its provider had come is not known.
"""

from __future__ import annotations

from msgspec import structs

from router.dialects.input_size import input_size
from router.dialects.prompt_size import media_tokens
from router.dialects.request import CallRequest
from router.dialects.stream import AnswerStream
from router.dispatch.attempt import Attempt
from router.endpoints.capabilities import MEDIA_NEEDS
from router.endpoints.entries import Dialect
from router.endpoints.token_sizes import TokenSizes
from telemetry.events import Result
from telemetry.wire.said import bytes_answered
from telemetry.wire.usage import Usage

WRITTEN_BYTES = 4.0
"""UNVALIDATED: of text that is written a token has so many; of prompts see `TokenSizes`."""
USED = frozenset(
    (Result.OK, Result.CUT, Result.TIMEOUT, Result.CLIENT_GONE, Result.OVERTAKEN),
)
"""An attempt that ended so was worked on, or may have been."""


def estimated(
    attempt: Attempt, request: CallRequest, sizes: TokenSizes, *, heard: bool, answer: bytes | None
) -> Usage | None:
    """Return what an attempt probably used; None where it used nothing.

    Args:
        request: the call.
        sizes: what prompts were counted as.
        heard: what came of its answer went to the client.
        answer: all of an answer that did not come in pieces.
    """
    state = attempt.stream.state if attempt.stream is not None else None
    was_begun = attempt.outgoing is not None and attempt.began_at
    if not (was_begun and is_used(attempt.result, state)):
        return None
    n_out = 0
    if heard and request.dialect is not Dialect.EMBEDDINGS:
        n_out = tokens_out(state, answer)
    if state is not None and state.begun is not None:  # it told what it read
        return structs.replace(state.begun, completion_tokens=n_out)
    return Usage(_tokens_in(attempt.endpoint.digest, request, sizes), n_out, 0, 0)


def _tokens_in(endpoint: int, request: CallRequest, sizes: TokenSizes) -> int:
    """Return how many tokens a call's prompt probably has, or all of its inputs."""
    inputs = input_size(request.body, request.dialect)
    if inputs is not None:
        # Of many inputs each may be as long as the model takes: no limit looks at their size.
        n_text = sizes.expected(endpoint, inputs.text_bytes) if inputs.text_bytes else 0
        return max(n_text + inputs.n_tokens, 1)
    n_in = sizes.expected(endpoint, request.text_bytes)
    return n_in + (media_tokens(request.body) if request.needs & MEDIA_NEEDS else 0)


def is_used(result: Result, state: AnswerStream | None) -> bool:
    """Return whether an attempt that ended so used anything.

    What says that it is no answer did not, unless there was content before that.
    """
    if result is Result.BAD_REPLY:
        return state is not None and state.spoke
    return result in USED


def tokens_out(state: AnswerStream | None, answer: bytes | None) -> int:
    """Return how many tokens an answer probably has, as far as it came."""
    if state is None:
        return round(bytes_answered(answer) / WRITTEN_BYTES) if answer else 0
    return max(state.n_pieces, round(state.said_bytes / WRITTEN_BYTES))
