"""How Messages is asked for thinking, and what it asks of such a request in turn."""

from __future__ import annotations

from typing import Any

from router.endpoints.capabilities import Reasoning
from router.translation.efforts import (
    BUDGETS,
    LEAST_BUDGET,
    LEAST_WORD,
    is_thinking_wanted,
    told_effort,
)
from router.translation.prompt import (
    Choosing,
    Effort,
    Manner,
    Prompt,
    ToolResult,
    Untranslatable,
)

LEAST_TOP_P = 0.95
"""Where it thinks, the provider takes no less."""
WAYS = (Reasoning.EFFORT, Reasoning.BUDGET, Reasoning.ADAPTIVE)


def thinking_said(prompt: Prompt, manner: Manner, max_tokens: int) -> dict[str, Any]:
    """Return `thinking` and `effort` of a request, as far as they are said.

    Raises:
        Untranslatable: thinking is wanted, but cannot be had in this request, and the endpoint
            does not let it go.
    """
    effort = told_effort(prompt, manner, WAYS)
    if effort is None:
        return {}
    if effort is Effort.NONE:
        return {"thinking": {"type": "disabled"}}
    word = LEAST_WORD if effort is Effort.MINIMAL else effort
    if manner.reasoning is Reasoning.EFFORT:
        return {"effort": word}
    try:
        _require_room(prompt)
        if manner.reasoning is Reasoning.ADAPTIVE:
            return {"thinking": {"type": "adaptive"}, "effort": word}
        budget = _budget(prompt, effort, max_tokens)
    except Untranslatable:
        if "reasoning" in manner.drop:
            return {}
        raise
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def is_thinking_lost(prompt: Prompt, said: dict[str, Any]) -> bool:
    """Return whether thinking is wanted, and nothing is said of it."""
    return is_thinking_wanted(prompt) and not said


def _require_room(prompt: Prompt) -> None:
    """Refuse what cannot be had together with thinking."""
    if prompt.temperature not in (None, 1):
        raise Untranslatable("temperature", "is 1 or unset where the model thinks")
    if prompt.top_k is not None:
        raise Untranslatable("top_k", "is unset where the model thinks")
    if prompt.top_p is not None and prompt.top_p < LEAST_TOP_P:
        raise Untranslatable("top_p", f"is {LEAST_TOP_P} or more where the model thinks")
    if prompt.choice and prompt.choice.choosing in (Choosing.ANY, Choosing.ONE):
        raise Untranslatable("tool_choice", "cannot demand a tool where the model thinks")


def _budget(prompt: Prompt, effort: Effort, max_tokens: int) -> int:
    if prompt.turns and any(isinstance(part, ToolResult) for part in prompt.turns[-1].parts):
        why = "the provider wants back what was thought before the tools were called"
        raise Untranslatable("thinking", f"{why}, and nobody has it")
    budget = prompt.thinking_tokens or BUDGETS[effort]
    if not LEAST_BUDGET <= budget < max_tokens:
        why = f"a budget of {budget} is not from {LEAST_BUDGET} to below max_tokens ({max_tokens})"
        raise Untranslatable("reasoning", why)
    return budget
