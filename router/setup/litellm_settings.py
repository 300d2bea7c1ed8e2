"""What a file of LiteLLM's says beside its deployments: fallbacks, aliases, timeouts, keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from router.config.masking import Place
from router.setup.litellm_reading import Fields, Reading, is_variable, safe, variable_in
from router.setup.litellm_words import OF_SETTINGS, SECTIONS, VARIABLES

DEFAULTS = "*"
"""Stands for every model, among fallbacks."""


def credentials_of(reading: Reading, value: object) -> dict[str, Mapping[str, Any]]:
    """Return what `credential_list` holds, by name."""
    found: dict[str, Mapping[str, Any]] = {}
    for i, each in enumerate(_listed(reading, ("credential_list",), value)):
        fields = Fields(reading, ("credential_list", i), each)
        name, values = fields.take("credential_name"), fields.take("credential_values")
        fields.take("credential_info")
        fields.leave_rest()
        if isinstance(name, str) and isinstance(values, dict):
            found[name] = values
        elif isinstance(each, dict):
            reading.leave(fields.where, "credential_name and credential_values belong here")
    return found


def app_entry_of(
    reading: Reading, root: Mapping[str, Any], models: Sequence[str]
) -> dict[str, Any]:
    """Return what the app says, by all settings of LiteLLM's; the rest of them is named.

    Args:
        models: that are taken over, as clients call them.
    """
    router = Fields(reading, ("router_settings",), root.get("router_settings"))
    module = Fields(reading, ("litellm_settings",), root.get("litellm_settings"))
    general = Fields(reading, ("general_settings",), root.get("general_settings"))
    app: dict[str, Any] = {"mode": "observe"}
    keys = _keys(reading, general)
    app |= {"keys": keys} if keys else {}
    if _fallbacks(reading, (router, module), models):
        app["fallback"] = "any"
    limits = [
        value
        for fields, name in ((router, "timeout"), (module, "request_timeout"))
        if (value := fields.number(name, least=0.001, most=86_400)) is not None
    ]
    first = router.number("stream_timeout", least=0.001, most=86_400)
    timeouts = {} if first is None else {"first_token_s": first}
    timeouts |= {"answer_s": min(limits)} if limits else {}
    app |= {"timeouts": timeouts} if timeouts else {}
    for fields in (router, module, general):
        fields.leave_rest(OF_SETTINGS)
    for name, value in root.items():
        if name == "environment_variables" and isinstance(value, dict):
            for variable in value:
                reading.leave((name, variable), VARIABLES)
        elif name not in READ and value is not None:
            reading.leave((name,), SECTIONS.get(name, "nothing here is known by this name"))
    return app


READ = frozenset(
    ["model_list", "credential_list", "router_settings", "litellm_settings", "general_settings"]
)


def aliases_of(
    reading: Reading, root: Mapping[str, Any], models: Sequence[str]
) -> Iterator[tuple[str, str, Place]]:
    """Yield other names of models that are taken over: alias, model, place."""
    settings = root.get("router_settings")
    if not isinstance(settings, dict):
        return
    where: Place = ("router_settings", "model_group_alias")
    aliases = settings.pop("model_group_alias", None)
    if aliases is not None and not isinstance(aliases, dict):
        reading.leave(where, "a mapping of aliases belongs here")
        return
    for alias, value in (aliases or {}).items():
        model = value
        if isinstance(value, dict):
            fields = Fields(reading, (*where, alias), value)
            model = fields.take("model")
            fields.leave("hidden", "every model that may be called is listed here")
            fields.leave_rest()
        if model in models:
            yield alias, model, (*where, alias)
        else:
            reading.leave((*where, alias), "the model that it means is not among those taken over")


def _listed(reading: Reading, where: Place, value: object) -> list[Any]:
    if value is None or isinstance(value, list):
        return value or []
    reading.leave(where, "a list belongs here")
    return []


def _keys(reading: Reading, general: Fields) -> list[dict[str, str]]:
    """Return the key that clients call with, where it is read from the environment."""
    value = general.take("master_key")
    if value is None:
        return []
    name, at = variable_in(value), general.at("master_key")
    if name is None or not is_variable(name):
        why = "a key stands there, and was not copied: put it into a variable, and write " + (
            f"apps: {{{reading.app}: {{keys: [{{env: NAME}}]}}}}; until then every call is let in"
        )
        reading.leave(at, why)
        return []
    return [{"env": name}]


def _fallbacks(reading: Reading, sources: Sequence[Fields], models: Sequence[str]) -> bool:
    """Return whether a failed call may go to another model; what differs is named."""
    goes_on: dict[str, list[str]] = {}
    places: list[Place] = []
    for fields in sources:
        at = fields.at("default_fallbacks")
        usual = _models(reading, at, fields.take("default_fallbacks"), models)
        if usual:
            goes_on[DEFAULTS] = usual
            places.append(at)
        at = fields.at("fallbacks")
        for i, each in enumerate(_listed(reading, at, fields.take("fallbacks"))):
            if not isinstance(each, dict):
                reading.leave((*at, i), "a mapping of one model to others belongs here")
                continue
            for name, others in each.items():
                place: Place = (*at, i, name)
                if name not in models and name != DEFAULTS:
                    reading.leave(place, "the model is not among those taken over")
                elif known := _models(reading, place, others, models):
                    goes_on.setdefault(name, []).extend(known)
                    places.append(place)
    _tell_difference(reading, goes_on, places, models)
    return bool(goes_on)


def _models(reading: Reading, at: Place, value: object, models: Sequence[str]) -> list[str]:
    found = []
    for i, name in enumerate(_listed(reading, at, value)):
        if isinstance(name, str) and name in models:
            found.append(name)
        else:
            why = "it is no model that was taken over"
            reading.leave((*at, i), why if isinstance(name, str) else f"no name; {why}")
    return found


def _tell_difference(
    reading: Reading,
    goes_on: Mapping[str, list[str]],
    places: Sequence[Place],
    models: Sequence[str],
) -> None:
    """Name what `fallback: any` says otherwise: it knows neither pairs nor an order."""
    if not goes_on:
        return
    for at in places:
        names = goes_on[DEFAULTS if at[-1] == "default_fallbacks" else str(at[-1])]
        if len({*names, at[-1]}) < len(set(models)) or len(names) > 1:
            why = "fallback: any lets a failed call go to any endpoint, in no order that is said"
            reading.leave(at, why)
    without = [] if DEFAULTS in goes_on else [name for name in models if name not in goes_on]
    if without:
        shown = ", ".join(safe(name) for name in without[:8]) + (" …" if len(without) > 8 else "")
        reading.notes.append(
            f"fallback: any holds for all models, so failed calls of {shown} go elsewhere, too; "
            "fallback: group keeps each call with the hosts of its model"
        )
