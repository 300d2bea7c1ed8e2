"""The list of models: every name that `model` may be, as the caller's dialect lists them."""

from __future__ import annotations

from typing import Any

from router.config.compiled import Configuration
from router.config.entries import AUTO, CLAUDE_AUTO, CLAUDE_ROLE, ROLE
from router.endpoints.entries import Dialect

MADE_AT = "1970-01-01T00:00:00Z"
"""Anthropic's word for a release whose date is not known."""


def model_list(configuration: Configuration, dialect: Dialect) -> dict[str, Any]:
    """Return the list of models in OpenAI's shape, or in Anthropic's, all of it on one page.

    To Anthropic's clients only what they can call is listed, and what is routed once more under
    names that begin like Anthropic's: some show no others.
    """
    strategies = dict.fromkeys(one.name for one in configuration.strategies.values())
    names = [AUTO, *(f"{AUTO}:{s}" for s in strategies)]
    names += [f"{AUTO}/{t}" for t in configuration.tasks if t not in configuration.implied]
    roles = [name for name, role in configuration.roles.items() if role.entry.active]
    names += [f"{ROLE}{name}" for name in roles]
    if dialect is Dialect.MESSAGES:
        aliases = [CLAUDE_AUTO, *(f"{CLAUDE_AUTO}-{s}" for s in strategies)]
        aliases += [f"{CLAUDE_ROLE}{name}" for name in roles]
        names = [*aliases, *names, *_listed(configuration, dialect)]
        shown = [_anthropic(name) for name in names]
        return {"data": shown, "has_more": False, "first_id": names[0], "last_id": names[-1]}
    owner = {e.id: e.provider or "pointsman" for e in configuration.catalog.endpoints}
    names += _listed(configuration, None)
    data = [
        {"id": n, "object": "model", "created": 0, "owned_by": owner.get(n, "pointsman")}
        for n in names
    ]
    return {"object": "list", "data": data}


def find_model(configuration: Configuration, dialect: Dialect, name: str) -> dict[str, Any] | None:
    """Return a model by its name, if it is listed."""
    listed: list[dict[str, Any]] = model_list(configuration, dialect)["data"]
    return next((model for model in listed if model["id"] == name), None)


def _listed(configuration: Configuration, dialect: Dialect | None) -> list[str]:
    """Return ids of endpoints, then names of models: of those that take a dialect, or of all."""
    catalog = configuration.catalog
    shown = [e for e in catalog.endpoints if dialect is None or e.takes(dialect)]
    models = [m for m, hosts in catalog.by_model.items() if any(e in shown for e in hosts)]
    return list(dict.fromkeys([*(e.id for e in shown), *models]))


def _anthropic(name: str) -> dict[str, Any]:
    return {"type": "model", "id": name, "display_name": name, "created_at": MADE_AT}
