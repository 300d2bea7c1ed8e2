"""How much is to be thought: as a word, and as a number of tokens."""

from __future__ import annotations

from collections.abc import Collection

from router.endpoints.capabilities import Reasoning
from router.translation.prompt import Effort, Manner, Prompt, Untranslatable

BUDGETS = {
    Effort.MINIMAL: 1024,
    Effort.LOW: 2048,
    Effort.MEDIUM: 8192,
    Effort.HIGH: 16_384,
    Effort.XHIGH: 32_768,
    Effort.MAX: 65_536,
}
"""Tokens to think with, for each word. 1024 is the least that Messages takes; from low to max they
double or more, so that the sizes that clients ask for by habit read as what is meant by them: 4000
is low, 10000 medium, 31999 high. How well a model thinks within them is UNVALIDATED."""
LEAST_BUDGET = BUDGETS[Effort.MINIMAL]
LEAST_WORD = Effort.LOW
"""Messages has no word for less, and many models behind Chat Completions know no other."""


def effort_of(budget: int) -> Effort:
    """Return the word for a budget: the highest whose own budget it reaches, at least `low`."""
    reached = [word for word, tokens in BUDGETS.items() if tokens <= budget]
    return max((LEAST_WORD, *reached[-1:]), key=BUDGETS.__getitem__)


def is_thinking_wanted(prompt: Prompt) -> bool:
    """Return whether a request asks for an answer that is thought about."""
    return prompt.effort not in (None, Effort.NONE)


def told_effort(prompt: Prompt, manner: Manner, ways: Collection[Reasoning]) -> Effort | None:
    """Return how much an endpoint is told to think; None where nothing is said of it.

    Args:
        ways: how its dialect can tell.

    Raises:
        Untranslatable: it cannot be told, and does not let that go.
    """
    if manner.reasoning in ways:
        return prompt.effort
    if not is_thinking_wanted(prompt) or "reasoning" in manner.drop:
        return None
    why = (
        f"asks for thinking ({prompt.effort}), and how to ask the endpoint's model for it is not "
        "known: declare models.<name>.reasoning, or let the endpoint drop it (translate.drop)"
    )
    raise Untranslatable("reasoning", why)
