"""What models can do: the names of it, in the configuration and as bits of what a call needs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Capability(StrEnum):
    """What a request may need of a model."""

    TOOLS = "tools"
    IMAGES = "images"
    AUDIO = "audio"
    SCHEMA = "schema"  # answers that fit a JSON schema
    PARALLEL_TOOLS = "parallel_tools"  # turns that call several tools
    DOCUMENTS = "documents"
    JSON = "json"  # answers that are some JSON object
    REASONING = "reasoning"  # it may be told how much to think
    PROMPT_CACHE = "prompt_cache"  # no call needs it: who does not cache is dearer, and no worse
    EMBEDDINGS = "embeddings"


LISTED = frozenset({Capability.TOOLS, Capability.IMAGES, Capability.AUDIO, Capability.SCHEMA})
"""What a list of capabilities rules out by leaving it out. Lists were written before the others
were asked about: of these it says only what it names."""


class Needs:
    """Capabilities as bits of a plain integer; enum arithmetic has no place in a call's path."""

    TOOLS = 1
    IMAGES = 2
    AUDIO = 4
    SCHEMA = 8
    PARALLEL_TOOLS = 16
    DOCUMENTS = 32
    JSON = 64
    REASONING = 128
    PROMPT_CACHE = 256
    EMBEDDINGS = 512


MEDIA_NEEDS = Needs.IMAGES | Needs.AUDIO | Needs.DOCUMENTS
"""Whose tokens are no text."""


class Reasoning(StrEnum):
    """How a model is told how much to think."""

    EFFORT = "effort"  # a word
    BUDGET = "budget"  # a number of tokens
    ADAPTIVE = "adaptive"  # a word, beside `thinking: {type: adaptive}`
    NEVER = "never"  # it does not think


def bits_of(said: Mapping[Capability, bool]) -> int:
    """Return which needs are met, as bits: what nobody said anything of is taken to be there."""
    bits = 0
    for capability in Capability:
        if said.get(capability, True):
            bits |= getattr(Needs, capability.name)
    return bits


def names_of(bits: int) -> list[str]:
    """Return the names of capabilities, given as bits of `Needs`."""
    return [one.value for one in Capability if bits & getattr(Needs, one.name)]
