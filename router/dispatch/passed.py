"""A request that is passed on, with what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from router.budgets.claims import Claims
from router.config.compiled import Role
from router.config.rules import MergedPolicy
from router.net.connection import BodyInPieces
from router.policy.callers import Caller
from router.policy.spend_tags import NO_TAG, SpendTag


class Passed(Struct, frozen=True):
    """A request as it is passed on."""

    caller: Caller
    body: bytes | BodyInPieces
    model: str  # empty where its body names none
    task: str
    policy: MergedPolicy
    reference: str | None
    on_ids: Callable[[str | None, str | None], None] | None = None
    """Hears the ids of the answer and of its container before the client does."""
    on_items: Callable[[Sequence[str]], None] | None = None
    """Hears the ids of items in the answer before the client has all of it."""
    is_by_id: bool = False  # of what was answered before: its usage was counted then
    role: Role | None = None  # in which it came
    episode: int = 0  # digest of its session; 0: it has none
    prompt: int = 0  # of the version that it names; 0: it names none
    user: str | None = None  # whom it names
    spend_tag: SpendTag = NO_TAG  # by which its app's spend is booked as well
    claims: Claims = ()  # the accounts of budgets that it counts in
