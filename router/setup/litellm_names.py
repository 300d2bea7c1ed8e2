"""By which names models of LiteLLM's are called: aliases, and whose a name is first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from router.config.entries import is_reserved
from router.endpoints.entry import is_name
from router.setup.litellm_deployments import NO_NAME, Deployment
from router.setup.litellm_reading import Reading, holds_variable, safe
from router.setup.litellm_secrets import A_KEY
from router.setup.litellm_settings import aliases_of

MOST_ENDPOINTS = 5_000
"""An alias is an endpoint for each host of its model: many of both are more than a file holds."""


def with_aliases(
    reading: Reading, root: dict[str, Any], kept: Sequence[Deployment]
) -> list[Deployment]:
    """Return the deployments and, of those that have other names, each once more under them."""
    if isinstance(root.get("router_settings"), dict):
        root["router_settings"] = dict(root["router_settings"])
    models = list(dict.fromkeys(one.model for one in kept))
    out = list(kept)
    for alias, model, where in aliases_of(reading, root, models):
        if not is_name(alias) or is_reserved(alias) or alias in models:
            why = "another model has this name" if alias in models else NO_NAME
            reading.leave(where, why)
            continue
        if reading.holds_key(alias) or holds_variable(alias):
            reading.leave(where, A_KEY if reading.holds_key(alias) else NO_NAME)
            continue
        hosts = [one for one in kept if one.model == model]
        if len(out) + len(hosts) > MOST_ENDPOINTS:
            reading.leave(where, f"more than {MOST_ENDPOINTS} endpoints would come of it")
            continue
        out += [_renamed(one, alias) for one in hosts]
        reading.notes.append(
            f"{safe(alias)} is an endpoint of its own beside {safe(model)}, and learns by itself"
        )
    at = {model: i for i, model in enumerate(_in_order(out))}
    out.sort(key=lambda one: (at[one.model], one.order))
    _tell_taken(reading, out)
    return out


def _upstream(one: Deployment) -> str:
    return str(one.entry.get("upstream_model", one.model))


def _in_order(kept: Sequence[Deployment]) -> list[str]:
    """Return the models as listed, but each before those that its name is the provider's name of.

    Calls mean either name, and the first endpoint that has it: that is to be the model's own.
    """
    needed: dict[str, list[str]] = {one.model: [] for one in kept}
    for one in kept:
        if _upstream(one) in needed:
            needed[one.model].append(_upstream(one))
    done: dict[str, None] = {}
    begun: set[str] = set()
    for model in needed:
        stack = [model]
        while stack:
            begun.add(stack[-1])
            before = next((name for name in needed[stack[-1]] if name not in begun), None)
            if before is not None:
                stack.append(before)
            else:
                done.setdefault(stack.pop())
    return list(done)


def _tell_taken(reading: Reading, kept: Sequence[Deployment]) -> None:
    """Name the models whose name another one's provider has for that, in a circle of names."""
    first: dict[str, Deployment] = {}
    for one in kept:
        for name in (one.model, _upstream(one)):
            first.setdefault(name, one)
    for name in dict.fromkeys(one.model for one in kept):
        if first[name].model != name:
            own = next(one for one in kept if one.model == name)
            why = (
                f"calls that name it come to {safe(first[name].model)}, which is called so upstream"
            )
            reading.leave((*own.place, "model_name"), f"{why}; rename one of them")


def _renamed(one: Deployment, alias: str) -> Deployment:
    entry = {name: value for name, value in one.entry.items() if name != "upstream_model"}
    upstream = _upstream(one)
    entry = ({} if upstream == alias else {"upstream_model": upstream}) | entry
    return replace(one, model=alias, entry=entry, own_id=None)
