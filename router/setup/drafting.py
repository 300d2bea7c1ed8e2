"""From choices to a draft: who is called where, with whose key, in whose words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from router.endpoints.default_prices import default_prices
from router.endpoints.rates import NANO_PER_TOKEN, Rates
from router.setup.choices import LEAVES, Offer, SetupChoices
from router.setup.draft import MOST_LINES, Draft, LeftOut
from router.setup.found import FoundProvider, law_of, place_of, plain_notes
from router.setup.known import CHAT, MESSAGES, RESPONSES

SAME_MODEL = "same-model"
TOO_MANY = f"the file keeps to {MOST_LINES} lines; run init in a terminal to choose by number"
_READ = (CHAT, MESSAGES, RESPONSES)
"""Dialects that clients come in; each can be said in chat, and the first and last in messages."""


def draft_of(choices: SetupChoices, offered: Sequence[Offer], at_s: float) -> Draft:
    """Return the draft of what was chosen.

    Args:
        offered: all that might have been; what nobody was asked about is named.
        at_s: now, in epoch seconds, for prices that a file must name.
    """
    providers = list(dict.fromkeys(one.provider for one in choices.offers))
    ids = _ids(choices.offers)
    app: dict[str, Any] = {"mode": "observe", "incumbent": ids[choices.incumbent]}
    hosts = _hosts(choices.offers)
    if len(hosts.get(choices.incumbent.model.name, ())) > 1:
        app["strategy"] = SAME_MODEL
    return Draft(
        providers={one.known.name: _provider(one, providers, choices.place) for one in providers},
        endpoints=tuple(_endpoint(one, ids[one], at_s) for one in choices.offers),
        app=choices.app,
        app_entry=app,
        organisation=_organisation(choices.place),
        left_out=() if choices.is_asked else tuple(_left_out(choices, offered)),
        notes=tuple(_notes(choices, hosts)),
    )


def _ids(offers: Sequence[Offer]) -> dict[Offer, str]:
    """Return an id for each: the model's name, with the host where several have it."""
    n_hosts = Counter(one.model.name for one in offers)
    return {
        one: one.model.name
        if n_hosts[one.model.name] == 1
        else f"{one.model.name}@{one.provider.known.name}"
        for one in offers
    }


def _hosts(offers: Sequence[Offer]) -> dict[str, list[str]]:
    """Return the models that several providers host, and who does."""
    hosts: dict[str, list[str]] = {}
    for one in offers:
        hosts.setdefault(one.model.name, []).append(one.provider.known.name)
    return {model: names for model, names in hosts.items() if len(names) > 1}


def _provider(one: FoundProvider, all_: Sequence[FoundProvider], place: str) -> dict[str, Any]:
    known = one.known
    entry: dict[str, Any] = {"base_url": one.base_url, "auth": "none"}
    if one.variable:
        entry["auth"] = {"env": one.variable}
        if known.header:
            entry["auth"]["header"] = known.header
    # At an address of one's own, too: a call that only comes back refused from there is refused
    # as it would be directly, and one that would be served is.
    entry["dialects"] = list(known.dialects)
    if others := [each for each in _READ if each not in known.dialects]:
        entry["translate"] = {"from": others}
    if taken := _passthrough(one, all_):
        entry["passthrough"] = taken
    region, law = place_of(one)
    if one.is_local:
        entry["zone"] = "local"
        is_placed = place != LEAVES
        region = place if is_placed and not law_of(place) else ""
        law = law_of(place) if is_placed else ""
    entry |= {"region": region} if region else {}
    entry |= {"jurisdiction": law} if law else {}
    return entry


def _passthrough(one: FoundProvider, all_: Sequence[FoundProvider]) -> Any:
    """Return what a provider takes of what nobody lists: Messages, or all that no other takes.

    So an app that names a model which is not listed is served as before.
    """
    is_theirs = {each: MESSAGES in each.known.dialects for each in all_}
    rest = next((each for each in all_ if not is_theirs[each]), all_[0])
    if one is rest:
        return True
    return {"dialects": [MESSAGES]} if is_theirs[one] else None


def _endpoint(one: Offer, id_: str, at_s: float) -> dict[str, Any]:
    model = one.model
    entry: dict[str, Any] = {"id": id_, "model": model.name, "provider": one.provider.known.name}
    if model.upstream:
        entry["upstream_model"] = model.upstream
    if model.output_tokens:
        entry["output_tokens"] = model.output_tokens
    if not one.provider.variable:
        entry["prices"] = {"usd_per_hour": 0}
    elif not one.provider.is_usual and (rates := list_prices(one, at_s)) is not None:
        entry["prices"] = _written(rates)
    return entry


def list_prices(one: Offer, at_s: float) -> Rates | None:
    """Return what the provider publishes at its usual address; None where nobody knows."""
    known = default_prices(one.provider.known.base_url, one.model.called)
    return None if known is None else known.at(at_s).usual.usual


def usd_per_mtok(nano_per_token: float) -> Decimal:
    """Return a price as it is published."""
    usd = Decimal(str(round(nano_per_token / NANO_PER_TOKEN, 6)))
    return Decimal(format(usd.normalize(), "f"))  # 4, not 4.0


def _written(rates: Rates) -> dict[str, Decimal]:
    """Return prices as the file has them; those that say nothing more are left out."""
    entry = {"input_usd_per_mtok": rates.tokens_in, "output_usd_per_mtok": rates.tokens_out}
    for name, rate in (
        ("cached_input_usd_per_mtok", rates.cached),
        ("cache_write_usd_per_mtok", rates.written),
    ):
        if rate != rates.tokens_in:
            entry[name] = rate
    return {name: usd_per_mtok(rate) for name, rate in entry.items()}


def _organisation(place: str) -> dict[str, Any]:
    if place == LEAVES:
        return {}
    return {"jurisdictions": [law_of(place)]} if law_of(place) else {"regions": [place]}


def _left_out(choices: SetupChoices, offered: Sequence[Offer]) -> list[LeftOut]:
    taken = {one.provider for one in choices.offers}
    others = dict.fromkeys(one.provider for one in offered if one.provider not in taken)
    return [LeftOut(one.known.name, TOO_MANY) for one in others]


def _notes(choices: SetupChoices, hosts: Mapping[str, Sequence[str]]) -> list[str]:
    notes = [
        f"{model} is at {' and '.join(names)}: strategy {SAME_MODEL} picks the best host of a "
        "model, and needs no feedback for that"
        + (" (the app has it)" if model == choices.incumbent.model.name else "")
        for model, names in hosts.items()
    ]
    unpriced = [
        f"{one.provider.known.name}:{one.model.called}"
        for one in choices.offers
        if one.provider.variable and list_prices(one, 0.0) is None
    ]
    if unpriced:
        notes.append(
            f"no price is published for {', '.join(unpriced)}: add prices, or what they cost is "
            "not known"
        )
    return notes + plain_notes(one.provider.base_url for one in choices.offers)
