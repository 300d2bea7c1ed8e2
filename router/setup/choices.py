"""What a first configuration is made of, as a person chose it: answers are read, or refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from router.config.entries import NO_INCUMBENT, is_reserved
from router.config.keys import DEFAULT_APP
from router.endpoints.entry import is_name
from router.setup.draft import MOST_LINES
from router.setup.found import NO_NAME, FoundProvider, keep_within, law_of
from router.setup.known import KnownModel

LEAVES = "yes"
"""Data may go anywhere."""
FIXED_LINES = 8
"""Of a file of at most 25: what stands there whatever is chosen."""
_PLACE = re.compile(r"(?:law:\s*)?[A-Za-z][A-Za-z0-9_-]{0,30}")


class BadAnswer(Exception):
    """An answer cannot be taken; says why, and what can."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A model at a provider."""

    provider: FoundProvider
    model: KnownModel


@dataclass(frozen=True, slots=True)
class SetupChoices:
    """All answers."""

    offers: tuple[Offer, ...]
    incumbent: Offer
    place: str = LEAVES
    app: str = DEFAULT_APP
    is_asked: bool = False  # a person chose


def offers_of(providers: Sequence[FoundProvider]) -> list[Offer]:
    """Return every model that is offered, in the order of the providers."""
    return [Offer(one, model) for one in providers for model in one.known.models]


def usual_offers(offers: Sequence[Offer]) -> tuple[Offer, ...]:
    """Return what is taken unless somebody says otherwise: as many providers as fit into the file.

    A provider takes a line, and each of its models one.
    """
    taken: list[Offer] = []
    left = MOST_LINES - FIXED_LINES
    for provider in dict.fromkeys(one.provider for one in offers):
        own = [one for one in offers if one.provider is provider]
        if left >= len(own) + 1:
            taken += own
            left -= len(own) + 1
    return tuple(taken)


def read_offers(answer: str, offers: Sequence[Offer]) -> tuple[Offer, ...]:
    """Return the offers that an answer names: numbers, ranges, or `provider:model` of any model.

    Raises:
        BadAnswer: something of it is none.
    """
    found: dict[tuple[str, str], Offer] = {}
    for word in re.split(r"[,\s]+", answer.strip()):
        for one in _meant(word, offers):
            found.setdefault((one.provider.known.name, one.model.called), one)
    return tuple(found.values())


def _meant(word: str, offers: Sequence[Offer]) -> Sequence[Offer]:
    ends = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", word)
    if ends is not None:
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if not 1 <= first <= last <= len(offers):
            raise BadAnswer(f"{word}: there are 1 to {len(offers)}")
        return offers[first - 1 : last]
    name, colon, model = word.partition(":")
    providers = {one.provider.known.name: one.provider for one in offers}
    if not colon or not model:
        raise BadAnswer(f"{word}: give numbers, or provider:model, such as {_example(offers)}")
    if name not in providers:
        raise BadAnswer(f"{word}: no provider {name} was found; there are {', '.join(providers)}")
    if is_reserved(model):
        raise BadAnswer(f"{word}: {model} means that the sidecar chooses; name a model")
    return [Offer(providers[name], _named(providers[name], model))]


def _named(provider: FoundProvider, called: str) -> KnownModel:
    """Return a model by what its provider calls it; what a limit must be named for is kept."""
    for model in provider.known.models:
        if called in (model.name, model.called):
            return model
    name = NO_NAME.sub("-", called.rpartition("/")[2]).strip("-./@+_")[:128]
    if not is_name(name):
        raise BadAnswer(f"{called}: this is no name of a model")
    limit = provider.known.models[0].output_tokens
    return KnownModel(name, "" if name == called else called, limit)


def _example(offers: Sequence[Offer]) -> str:
    return f"{offers[0].provider.known.name}:{offers[0].model.called}"


def read_incumbent(answer: str, offers: Sequence[Offer]) -> Offer:
    """Return the one of the chosen that an answer names, by its number or its name.

    Raises:
        BadAnswer: it names none of them.
    """
    word = answer.strip()
    if word.isdecimal() and 1 <= int(word) <= len(offers):
        return offers[int(word) - 1]
    names = {f"{one.provider.known.name}:{one.model.called}": one for one in offers}
    by_model = [one for one in offers if word in (one.model.name, one.model.called)]
    if word in names:
        return names[word]
    if len(by_model) == 1:
        return by_model[0]
    several = "is at several providers; " if by_model else "is not among them; "
    raise BadAnswer(f"{word}: {several}give one of 1 to {len(offers)}, or of {', '.join(names)}")


def read_place(answer: str, providers: Sequence[FoundProvider]) -> str:
    """Return where data must stay, in the configuration's own words; `LEAVES`: anywhere.

    Raises:
        BadAnswer: nobody is known to be there; whose place is not known counts as elsewhere.
    """
    word = re.sub(r":\s+", ":", answer.strip())
    if word.lower() in ("yes", "y"):
        return LEAVES
    if word.lower() in ("no", "n"):
        raise BadAnswer("name where it must stay: a region such as eu, or a law such as law:US")
    if not _PLACE.fullmatch(word):
        raise BadAnswer(f"{word}: write yes, a region such as eu, or a law such as law:US")
    head, colon, law = word.partition(":")
    place = f"law:{law.strip().upper()}" if colon else head.lower()
    kept, others = keep_within(providers, place)
    if not kept:
        where = f"under the law of {law_of(place)}" if law_of(place) else f"in {place}"
        raise BadAnswer(
            f"none of {', '.join(others)} is known to be {where}, and what is not known stays out"
        )
    return place


def read_app(answer: str) -> str:
    """Return an app's name.

    Raises:
        BadAnswer: it is none.
    """
    name = answer.strip()
    if not is_name(name) or name == NO_INCUMBENT:
        raise BadAnswer(f"{name}: use 1 to 128 letters, digits and . _ / @ + -; no spaces")
    return name
