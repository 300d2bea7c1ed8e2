"""What an answer leaves at its provider, remembered with who made it: ids, items, thoughts."""

from __future__ import annotations

from collections.abc import Sequence

from router.config.compiled import Configuration
from router.decision.stored_ids import StoredIds
from router.dialects.request import CallRequest
from router.dialects.stored import left_behind
from router.dispatch.attempt import Attempt
from router.endpoints.catalog import Endpoint
from router.policy.callers import Caller
from router.policy.makers import ItemMakers


def note_ids(
    ids: StoredIds,
    caller: Caller,
    request: CallRequest,
    endpoint: Endpoint,
    configuration: Configuration,
    said: tuple[str | None, str | None],
    items: Sequence[str] = (),
) -> None:
    """Remember who made what lies there from now on.

    Args:
        said: the ids of the answer and of its container.
        items: of what it consists of.
    """
    if request.kept is None and said[1] is None:
        return  # nothing lies there: most often
    if request.dialect not in endpoint.dialects:
        return  # of a translated answer nothing does
    app = caller.app
    items = items if configuration.derive(ItemMakers).matter_to(app) else ()
    for stored in left_behind(request.kept, *said, items):
        ids.note(app.name, stored, endpoint.digest)


def note_thoughts(thoughts: StoredIds, caller: Caller, attempt: Attempt) -> None:
    """Remember who thought what the client was told, also where it left before the end."""
    marks = attempt.stream.state.thoughts if attempt.stream is not None else attempt.thoughts
    if marks:
        thoughts.note_thoughts(caller.app.name, marks, attempt.endpoint.digest)
