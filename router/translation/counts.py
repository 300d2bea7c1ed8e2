"""Tokens of an answer, as each dialect counts them.

Messages counts what was read from a cache, or written to it, beside the rest of the input; the
others count it within. What was thought is within the output everywhere.
"""

from __future__ import annotations

from typing import Any

from router.translation.completion import Count
from telemetry.wire.usage import cache_written_of, usage_of


def count_of(reported: Any) -> Count | None:
    """Return what an answer of any dialect reports: the same as is booked of it."""
    usage = usage_of(reported)
    if usage is None:
        return None
    cached = usage.cached_tokens
    return Count(
        input=usage.prompt_tokens,
        output=usage.completion_tokens,
        cached=cached,
        cache_written=min(cache_written_of(reported), usage.prompt_tokens - cached),
        reasoning=usage.reasoning_tokens,
    )


def as_chat(count: Count) -> dict[str, Any]:
    """Return it as Chat Completions counts."""
    return {
        "prompt_tokens": count.input,
        "completion_tokens": count.output,
        "total_tokens": count.input + count.output,
        "prompt_tokens_details": {
            "cached_tokens": count.cached,
            "cache_write_tokens": count.cache_written,
        },
        "completion_tokens_details": {"reasoning_tokens": count.reasoning},
    }


def as_messages(count: Count | None) -> dict[str, Any]:
    """Return it as Messages counts; its clients read numbers, also where there are none."""
    if count is None:
        return {"input_tokens": 0, "output_tokens": 0}
    return {
        "input_tokens": count.input - count.cached - count.cache_written,
        "cache_creation_input_tokens": count.cache_written,
        "cache_read_input_tokens": count.cached,
        "output_tokens": count.output,
        "output_tokens_details": {"thinking_tokens": count.reasoning},
    }


def as_responses(count: Count) -> dict[str, Any]:
    """Return it as Responses counts."""
    return {
        "input_tokens": count.input,
        "input_tokens_details": {
            "cached_tokens": count.cached,
            "cache_write_tokens": count.cache_written,
        },
        "output_tokens": count.output,
        "output_tokens_details": {"reasoning_tokens": count.reasoning},
        "total_tokens": count.input + count.output,
    }
