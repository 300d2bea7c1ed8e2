"""What `translate.drop` may name: words that no request could ever make use of are refused.

A type of tool that nobody here knows is taken, since providers bring new ones.
"""

from __future__ import annotations

import difflib

from router.endpoints.tool_types import (
    CALLERS_OF_ANTHROPIC,
    CALLERS_OF_OPENAI,
    CARRIED,
    GROUPS,
    KEEPING_TOOLS,
    UNNAMED_TOOLS,
    undated,
)

WISHES = ("store", "reasoning")
PROVIDER_TOOLS = tuple(
    sorted(KEEPING_TOOLS.keys() | UNNAMED_TOOLS | CALLERS_OF_OPENAI | CALLERS_OF_ANTHROPIC | GROUPS)
)
"""Types of tools that providers run, or have made, without their dates."""
SETTINGS = frozenset(
    {
        *("temperature", "top_p", "top_k", "stop", "stop_sequences", "seed", "n", "logprobs"),
        *("top_logprobs", "logit_bias", "frequency_penalty", "presence_penalty", "max_tokens"),
        *("max_completion_tokens", "max_output_tokens", "response_format", "output_config"),
        *("text", "verbosity", "modalities", "audio", "prediction", "metadata", "user", "tools"),
        *("tool_choice", "parallel_tool_calls", "thinking", "reasoning_effort", "background"),
        *("conversation", "previous_response_id", "prompt", "truncation", "include", "input"),
        *("instructions", "messages", "system", "stream", "stream_options", "service_tier"),
        *("context_management", "container", "mcp_servers", "cache_control", "functions"),
    }
)
"""Fields of requests: only tools, `store` and `reasoning` can be dropped."""
ALIKE = 0.8
"""From here on a word is taken for a known one written wrongly."""


def checked_droppable(word: str) -> str:
    """Return a word of `translate.drop`.

    Raises:
        ValueError: it could never act; says what was likely meant.
    """
    if undated(word) != word:
        raise ValueError(f"dates of tools do not count here; write {undated(word)}")
    if word in CARRIED:
        raise ValueError("such tools are translated; name what providers run, such as web_search")
    known = (*WISHES, *PROVIDER_TOOLS)
    if word in known:
        return word
    close = difflib.get_close_matches(word, known, n=1, cutoff=ALIKE)
    is_longer = any(word.startswith(one) for one in PROVIDER_TOOLS)  # one of tomorrow may be
    if word in SETTINGS or (close and not is_longer):
        meant = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"only tools that a provider runs, store and reasoning can go{meant}")
    return word
