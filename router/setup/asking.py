"""The questions, at most four, each with a default; what cannot be taken is asked again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from router.config.keys import DEFAULT_APP
from router.setup.choices import (
    LEAVES,
    BadAnswer,
    Offer,
    SetupChoices,
    offers_of,
    read_app,
    read_incumbent,
    read_offers,
    read_place,
    usual_offers,
)
from router.setup.drafting import list_prices, usd_per_mtok
from router.setup.found import FoundProvider, keep_within, law_of, place_of

Answer = TypeVar("Answer")
Ask = Callable[[str], str]
"""Shows a question and returns what was typed, "" for the default."""
Say = Callable[[str], None]


def usual_choices(providers: Sequence[FoundProvider]) -> SetupChoices:
    """Return what is chosen by whoever takes every default."""
    offers = usual_offers(offers_of(providers))
    return SetupChoices(offers, offers[0])


def ask_choices(
    providers: Sequence[FoundProvider], *, ask: Ask, say: Say, at_s: float
) -> SetupChoices:
    """Return what a person chooses."""
    say(_places(providers))
    place = _until_taken(
        f"May prompts leave your region? yes, or where they stay (eu, law:US) [{LEAVES}] ",
        lambda said: read_place(said or LEAVES, providers),
        ask,
        say,
    )
    if place != LEAVES:
        providers, others = keep_within(providers, place)
        if others:
            say(f"left out: {', '.join(others)}, not known to be in {law_of(place) or place}")
    offers = offers_of(providers)
    usual = usual_offers(offers)
    for number, one in enumerate(offers, 1):
        say(f"  {number:>2}  {_shown(one, at_s)}")
    numbers = " ".join(str(offers.index(one) + 1) for one in usual)
    chosen = _until_taken(
        f"Which models? Numbers, or any other as provider:model [{numbers}] ",
        lambda said: read_offers(said, offers) if said else usual,
        ask,
        say,
    )
    incumbent = chosen[0]
    if len(chosen) > 1:
        for number, one in enumerate(chosen, 1):
            say(f"  {number:>2}  {one.provider.known.name}:{one.model.called}")
        incumbent = _until_taken(
            "Which of them do you use now? It keeps the calls until another is shown better [1] ",
            lambda said: read_incumbent(said or "1", chosen),
            ask,
            say,
        )
    app = ask_app(ask=ask, say=say)
    return SetupChoices(chosen, incumbent, place, app, is_asked=True)


def ask_app(*, ask: Ask, say: Say) -> str:
    """Return the app's name."""
    return _until_taken(
        f"The app's name? Any but `{DEFAULT_APP}` gets a key of its own [{DEFAULT_APP}] ",
        lambda said: read_app(said or DEFAULT_APP),
        ask,
        say,
    )


def _until_taken(question: str, read: Callable[[str], Answer], ask: Ask, say: Say) -> Answer:
    while True:
        try:
            return read(ask(question).strip())
        except BadAnswer as problem:
            say(f"  {problem}")


def _shown(one: Offer, at_s: float) -> str:
    name, rates = f"{one.provider.known.name}:{one.model.called}", list_prices(one, at_s)
    if rates is None:
        return name
    tokens_in, tokens_out = usd_per_mtok(rates.tokens_in), usd_per_mtok(rates.tokens_out)
    return f"{name:<42} ${tokens_in:f} in, ${tokens_out:f} out a million tokens"


def _places(providers: Sequence[FoundProvider]) -> str:
    """Return where each is, as far as that is known."""
    return "Found: " + "; ".join(f"{one.known.name} ({_whereabouts(one)})" for one in providers)


def _whereabouts(one: FoundProvider) -> str:
    if one.is_local:
        return "this machine"
    region, law = place_of(one)
    known = [f"region {region}"] if region else []
    known += [f"law:{law}"] if law else []
    return ", ".join(known) or "place not known"
