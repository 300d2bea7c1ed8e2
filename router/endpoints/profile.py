"""What a model can do where it is hosted: what was said of it, and what is assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from router.endpoints.capabilities import Capability, Reasoning, bits_of
from router.endpoints.entries import DEFAULT_DIALECT, Dialect, ProfileEntry
from router.endpoints.verified import Verified


class Provenance(StrEnum):
    """Where a value of a profile comes from."""

    DECLARED = "declared"  # the configuration says so
    DEFAULT = "default"  # nobody said anything
    VERIFIED = "verified"  # a live check found that it is so


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """What is known of a model at one endpoint; what is None is not known."""

    dialects: list[Dialect] | None = None  # that it is said to speak
    context_tokens: int | None = None
    output_tokens: int | None = None  # the most that it writes
    reasoning: Reasoning | None = None
    said: Mapping[Capability, bool] = field(default_factory=dict)
    capabilities: int = bits_of({})  # bits of Needs

    def as_json(self, verified: Verified | None = None) -> dict[str, Any]:
        """Return every value beside where it comes from.

        Args:
            verified: what a live check found of the endpoint.
        """
        return {
            "dialects": told(self.dialects, [DEFAULT_DIALECT]),
            "context_tokens": told(self.context_tokens, None),
            "output_tokens": told(self.output_tokens, None),
            "reasoning": told(self.reasoning, None),
            "capabilities": {c.value: _checked(c, self.said.get(c), verified) for c in Capability},
        }


def profile_of(
    model: ProfileEntry, host: ProfileEntry, dialects: list[Dialect] | None
) -> ModelProfile:
    """Return what a model can do at an endpoint; what is said here goes before what is said of it.

    Args:
        model: of the model, wherever it is hosted.
        host: of the endpoint.
        dialects: that the endpoint, or its provider, says it speaks.
    """
    said = model.said | host.said
    return ModelProfile(
        dialects=dialects,
        context_tokens=host.context_tokens or model.context_tokens,
        output_tokens=host.output_tokens or model.output_tokens,
        reasoning=_reasoning(host.reasoning or model.reasoning, said.get(Capability.REASONING)),
        said=said,
        capabilities=bits_of(said),
    )


def _reasoning(asked_by: Reasoning | None, is_able: bool | None) -> Reasoning | None:
    """Return how thinking is asked for here, where the host's own word may be the other half."""
    if is_able is False:
        return Reasoning.NEVER
    return None if is_able and asked_by is Reasoning.NEVER else asked_by


def _checked(
    capability: Capability, declared: bool | None, verified: Verified | None
) -> dict[str, Any]:
    """Return what holds of a capability, where that comes from, and what a live check found.

    Where that found something else, what is declared holds on.
    """
    out = told(declared, True)
    found = verified.of(capability) if verified is not None else None
    if verified is None or found is None:
        return out
    if found is out["value"]:
        out["source"] = Provenance.VERIFIED.value
    return {**out, "checked": {"found": found, "on": verified.on}}


def told(declared: Any, default: Any) -> dict[str, Any]:
    """Return a value beside where it comes from; None was not declared."""
    if declared is None:
        return {"value": default, "source": Provenance.DEFAULT.value}
    return {"value": declared, "source": Provenance.DECLARED.value}
