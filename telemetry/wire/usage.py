"""What answers of every dialect report of themselves: token counts, ids, names of models."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, ValidationError, convert

from telemetry.wire.costs import COSTS, reported_nano

MAX_TOKENS = 1 << 31
"""What a provider may claim to have counted; more is a mistake of its own."""


CREATED, CREATED_1H = "cache_creation_input_tokens", "ephemeral_1h_input_tokens"
WRITTEN = "cache_write_tokens"
"""What was written to a cache, as Anthropic says it, and as others do."""
MAX_TIER = 32
"""A service tier is a word."""


class Usage(Struct, frozen=True):
    """Token counts of an answer."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int  # of the prompt, from the provider's cache
    reasoning_tokens: int  # of the completion, that nobody sees
    written_tokens: int = 0  # of the prompt, to the provider's cache
    written_1h_tokens: int = 0  # of those, to be kept for an hour
    tier: str | None = None  # the service tier that served
    reported_nano: int | None = None  # what it cost by the provider's own word; None: it has none


class WholeAnswer(Struct, frozen=True):
    """What is read of an unstreamed answer."""

    id: str | None = None
    usage: Usage | None = None
    model: str | None = None  # who answered, as the answer says
    fingerprint: str | None = None  # of the system that served
    thoughts: tuple[str, ...] = ()  # marks of what it thought
    container: str | None = None  # id of where the provider ran its tools
    item_ids: tuple[str, ...] = ()  # by which a later call may name what it consists of


Count = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]


class _PromptDetails(Struct, forbid_unknown_fields=True):
    cached_tokens: Count = 0
    audio_tokens: Any = None


class _CompletionDetails(Struct, forbid_unknown_fields=True):
    reasoning_tokens: Count = 0
    audio_tokens: Any = None
    accepted_prediction_tokens: Any = None
    rejected_prediction_tokens: Any = None


class PlainUsage(Struct, forbid_unknown_fields=True):
    """What OpenAI reports, and many others: nothing in it can be read in two ways."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None

    def read(self, tier: Any) -> Usage:
        """Return the counts, with a service tier that is told beside them."""
        prompt, completion = self.prompt_tokens, self.completion_tokens
        ours, theirs = self.prompt_tokens_details, self.completion_tokens_details
        cached = ours.cached_tokens if ours is not None else 0
        reasoning = theirs.reasoning_tokens if theirs is not None else 0
        if reasoning and (
            self.total_tokens == prompt + completion + reasoning or reasoning > completion
        ):
            completion += reasoning
        told = tier_of(tier) if tier is not None else None
        return Usage(prompt, completion, min(cached, prompt), reasoning, tier=told)


def usage_of(value: Any, tier: Any = None) -> Usage | None:
    """Return what a provider reports, as far as it makes sense; None where it does not.

    Args:
        tier: the service tier, where the answer says it beside the usage (OpenAI); within it,
            where Anthropic does, it goes before.

    | form | who |
    |---|---|
    | `prompt_tokens`, `completion_tokens`, details below each | OpenAI, and most others |
    | `input_tokens`, `output_tokens`, details below each | the Responses dialect |
    | `prompt_cache_hit_tokens` | DeepSeek: of the prompt, from its cache |
    | `cached_tokens` at the top | Moonshot, and others |
    | reasoning beside the completion, so that only all three make the total | xAI, and others |
    | more reasoning than completion | the same, without a total |
    | `thinking_tokens` in `output_tokens_details` | Anthropic: its reasoning |
    | `cache_read_input_tokens` | Anthropic: beside `input_tokens`, or of `prompt_tokens` |
    | in a choice, or under `x_groq` | Moonshot; Groq: see `AnswerPart.reported` |

    What the call cost by the provider's own word is read beside them: see `telemetry.wire.costs`.
    """
    if not isinstance(value, dict):
        return None
    if "completion_tokens" in value:  # else it is no plain one, and nothing has to fail for that
        try:
            return convert(value, PlainUsage).read(tier)
        except ValidationError:
            pass
    prompt = _first(value, "prompt_tokens", "input_tokens")
    if prompt is None:
        return None
    completion = _first(value, "completion_tokens", "output_tokens") or 0
    details = value.get("prompt_tokens_details") or value.get("input_tokens_details")
    cached = _first(details, "cached_tokens")
    if cached is None:
        names = ("prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
        cached = _first(value, *names) or 0
    if "prompt_tokens" not in value and _first(value, "cache_read_input_tokens") is not None:
        prompt += cached + (_first(value, CREATED) or 0)
    reasoning = reasoning_of(value)
    total = _first(value, "total_tokens")
    if reasoning and (total == prompt + completion + reasoning or reasoning > completion):
        completion += reasoning
    cached, written, hourly = min(cached, prompt), 0, 0
    if CREATED in value or (isinstance(details, dict) and WRITTEN in details):
        written = min(cache_written_of(value), prompt - cached)
        hourly = min(_first(value.get("cache_creation"), CREATED_1H) or 0, written)
    if tier is not None or "service_tier" in value:
        tier = tier_of(value.get("service_tier")) or tier_of(tier)
    told = None if value.keys().isdisjoint(COSTS) else reported_nano(value)
    return Usage(prompt, completion, cached, reasoning, written, hourly, tier, told)


def prompt_usage_of(value: Any, tier: Any = None) -> Usage | None:
    """Return the same of an answer for which nothing may be written: of vectors, of an order.

    Where only a total is told, all of it is the prompt's.
    """
    found = usage_of(value, tier)
    total = _first(value, "total_tokens") if found is None else None
    return found if total is None else usage_of({**value, "prompt_tokens": total}, tier)


def reasoning_of(value: Any) -> int:
    """Return how many tokens of an answer nobody sees, also where no other count makes sense."""
    if not isinstance(value, dict):
        return 0
    details = value.get("completion_tokens_details") or value.get("output_tokens_details")
    found = _first(details, "reasoning_tokens", "thinking_tokens")
    return found if found is not None else _first(value, "reasoning_tokens") or 0


def cache_written_of(value: Any) -> int:
    """Return how many tokens of the prompt were written to the provider's cache."""
    if not isinstance(value, dict):
        return 0
    details = value.get("prompt_tokens_details") or value.get("input_tokens_details")
    found = _first(details, WRITTEN)
    return found if found is not None else _first(value, CREATED) or 0


def tier_of(value: Any) -> str | None:
    """Return the name of a service tier where it is one."""
    return value if isinstance(value, str) and 0 < len(value) <= MAX_TIER else None


def id_of(value: Any) -> str | None:
    """Return an answer's id where it is one."""
    return value if isinstance(value, str) and value else None


def _first(value: Any, *names: str) -> int | None:
    """Return the first of these counts that is one."""
    if not isinstance(value, dict):
        return None
    for name in names:
        found = value.get(name)
        if found is not None and (count := _count(found)) is not None:
            return count
    return None


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value <= MAX_TOKENS else None
