"""A deployment of LiteLLM's as an endpoint: settings, prices, limits, what its model can do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from router.config.entries import is_reserved
from router.config.masking import Place
from router.endpoints.entries import EndpointEntry
from router.endpoints.entry import is_name
from router.setup.litellm_identity import says_no_model
from router.setup.litellm_providers import AZURE, CallSite, site_of
from router.setup.litellm_reading import (
    SET_IT_HERE,
    Fields,
    NotImportedError,
    Reading,
    holds_variable,
    safe,
)
from router.setup.litellm_secrets import A_KEY
from router.setup.litellm_words import OF_DEPLOYMENTS, OF_MODEL_INFO

NO_NAME = "names here have 1 to 128 letters, digits and . _ / @ + -; rename it here and in clients"
SETTINGS = {
    "chat": frozenset(
        [
            "temperature",
            "top_p",
            "n",
            "stop",
            "max_tokens",
            "max_completion_tokens",
            "presence_penalty",
            "seed",
            "logit_bias",
            "frequency_penalty",
            "logprobs",
            "top_logprobs",
            "reasoning_effort",
            "verbosity",
            "service_tier",
            "parallel_tool_calls",
            "response_format",
        ]
    ),
    "messages": frozenset(
        ["temperature", "top_p", "top_k", "max_tokens", "thinking", "stop_sequences"]
    ),
    "completions": frozenset(
        ["temperature", "top_p", "n", "stop", "max_tokens", "seed", "best_of", "logprobs"]
    ),
    "embeddings": frozenset({"dimensions", "encoding_format"}),
    "responses": frozenset({"temperature", "top_p", "max_output_tokens", "reasoning"}),
}
"""What may stand in `params`, by the dialect that goes out."""
NUMBERS = frozenset(
    [
        "temperature",
        "top_p",
        "top_k",
        "n",
        "seed",
        "best_of",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "presence_penalty",
        "frequency_penalty",
        "top_logprobs",
        "dimensions",
    ]
)
"""Of these, what are numbers in every dialect."""
PRICES = {
    "input_cost_per_token": "input_usd_per_mtok",
    "output_cost_per_token": "output_usd_per_mtok",
    "cache_read_input_token_cost": "cached_input_usd_per_mtok",
    "cache_creation_input_token_cost": "cache_write_usd_per_mtok",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h_usd_per_mtok",
    "output_cost_per_reasoning_token": "reasoning_usd_per_mtok",
}
LONG = (128_000, 200_000)
"""Lengths of prompts beyond which LiteLLM knows other prices."""
DEAREST = 0.1
"""USD a token: 100,000 a million, which is what our prices end at."""
CAPABILITIES = {
    "supports_function_calling": "tools",
    "supports_parallel_function_calling": "parallel_tools",
    "supports_vision": "images",
    "supports_audio_input": "audio",
    "supports_pdf_input": "documents",
    "supports_response_schema": "schema",
    "supports_reasoning": "reasoning",
    "supports_prompt_caching": "prompt_cache",
}
MODES = {
    "chat": "chat",
    "completion": "completions",
    "embedding": "embeddings",
    "responses": "responses",
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """An endpoint to be, which has no id and no provider yet."""

    place: Place
    model: str
    site: CallSite
    entry: Mapping[str, Any]
    own_id: str | None
    order: float  # the least first
    known_as: str | None  # the model by a name that says which; None: nobody knows
    is_rest: bool = False  # all models that nobody lists

    @property
    def at_model(self) -> Place:
        """Where LiteLLM's file names the model."""
        return (*self.place, "litellm_params", "model")


def read_deployment(reading: Reading, index: int, value: object) -> Deployment | None:
    """Return an entry of `model_list`; None where it cannot be taken over, which is then named."""
    place: Place = ("model_list", index)
    n_left, n_places = len(reading.left_out), len(reading.places)
    try:
        return _deployment(reading, place, value)
    except NotImportedError as error:
        # What was named of its fields so far goes with it.
        del reading.left_out[n_left:], reading.places[n_places:]
        reading.leave(error.where, f"{error.why}; the whole entry is left out")
        return None


def _deployment(reading: Reading, place: Place, value: object) -> Deployment:
    if not isinstance(value, dict):
        raise NotImportedError(place, "a mapping with model_name and litellm_params belongs here")
    top = Fields(reading, place, value)
    name = top.text("model_name")
    params = Fields(reading, top.at("litellm_params"), _with_credential(reading, top))
    info = Fields(reading, top.at("model_info"), top.take("model_info"))
    if not name:
        raise NotImportedError(top.at("model_name"), "missing: it is what clients call the model")
    if "*" in name or "*" in str(value.get("litellm_params", {}).get("model")):
        return _rest(name, top, params, info)
    if not is_name(name) or is_reserved(name) or name == "none":
        why = "this name has a meaning of its own here; rename it" if is_name(name) else NO_NAME
        raise NotImportedError(top.at("model_name"), why)
    site = site_of(params)
    dialects = _dialects(info, site)
    entry, known_as = _identity(info, site, name)
    if dialects != site.dialects:
        entry["dialects"] = list(dialects)
    entry |= {"auth": site.own_auth} if site.own_auth else {}
    order = params.number("order")
    own_id = _own_id(info)
    entry |= _settings(params, dialects[0]) | _prices(params, info) | _bounds(params)
    entry |= _profile(info)
    params.leave_rest(OF_DEPLOYMENTS)
    info.leave_rest(OF_MODEL_INFO)
    top.leave_rest(OF_DEPLOYMENTS)
    _require_sound(place, name, entry)
    return Deployment(place, name, site, entry, own_id, 0 if order is None else order, known_as)


def _identity(info: Fields, site: CallSite, name: str) -> tuple[dict[str, Any], str | None]:
    """Return by which names a model is asked for and answers, and which it is, if that is known."""
    upstream = site.upstream_model
    known_as: str | None = upstream
    entry: dict[str, Any] = {}
    if says_no_model(site):
        base = info.text("base_model")
        known_as = base.removeprefix("azure/") if base else None
        if known_as is None:
            entry["opaque"] = True
        elif site.kind == AZURE:  # which reads the deployment's name in the path alone
            upstream = known_as
        else:
            entry["served_as"] = [known_as]
    return ({} if upstream == name else {"upstream_model": upstream}) | entry, known_as


def _own_id(info: Fields) -> str | None:
    """Return the id that a deployment says, if it can stand here."""
    id_ = info.take("id")
    if id_ is None:
        return None
    why = "" if isinstance(id_, str) and is_name(id_) else NO_NAME
    why = A_KEY if info.reading.holds_key(id_) else why
    why = SET_IT_HERE.format(name="it") if holds_variable(id_) else why
    if why:
        info.reading.leave(info.at("id"), why)
    return None if why else str(id_)


def _require_sound(place: Place, name: str, entry: Mapping[str, Any]) -> None:
    """Refuse what no configuration of ours takes, by the place in LiteLLM's file.

    Raises:
        NotImportedError: something in it is not sound.
    """
    try:
        EndpointEntry.model_validate({"id": "id", "model": name, **entry})
    except ValidationError as error:
        told = [
            f"{'.'.join(map(str, one['loc']))}: {one['msg']}"
            for one in error.errors(include_input=False, include_url=False)
        ]
        raise NotImportedError(place, safe("; ".join(told))) from None


def _with_credential(reading: Reading, top: Fields) -> object:
    """Return what a deployment says, with what its credential says beneath it."""
    value = top.take("litellm_params")
    if not isinstance(value, dict):
        raise NotImportedError(top.at("litellm_params"), "a mapping with model belongs here")
    name = value.get("litellm_credential_name")
    if name is None:
        return value
    held = reading.credentials.get(name) if isinstance(name, str) else None
    if held is None:
        at: Place = (*top.at("litellm_params"), "litellm_credential_name")
        raise NotImportedError(at, "credential_list has none of this name")
    own = {key: each for key, each in value.items() if key != "litellm_credential_name"}
    return {**held, **own}


def _rest(name: str, top: Fields, params: Fields, info: Fields) -> Deployment:
    """Return who takes all models that nobody lists; no other pattern can be said here."""
    at = params.at("model")
    model = params.text("model") or ""
    kind, slash, rest = model.partition("/")
    if name != "*" or (slash, rest) != ("/", "*"):
        why = "patterns are not known here: list each model, or let passthrough take unlisted ones"
        raise NotImportedError(top.at("model_name"), why)
    # What it calls the model is what the client says, so any name stands for it.
    whole = Fields(top.reading, params.where, params.left() | {"model": f"{kind}/any"})
    site = site_of(whole)
    if site.own_auth is not None:
        raise NotImportedError(at, "Azure names the model in the path: list each deployment")
    whole.leave_rest(OF_DEPLOYMENTS)
    info.leave_rest(OF_MODEL_INFO)
    top.leave_rest(OF_DEPLOYMENTS)
    return Deployment(top.where, name, site, {}, None, 0, None, is_rest=True)


def _dialects(info: Fields, site: CallSite) -> tuple[str, ...]:
    """Return what an endpoint speaks, by what LiteLLM says that it is for."""
    at, mode = info.at("mode"), info.text("mode")
    if mode is None and site.upstream_model.startswith("text-embedding-"):
        mode = "embedding"
    if mode is None or (mode == "chat" and site.dialects[0] in ("chat", "messages")):
        return site.dialects
    dialect = MODES.get(mode)
    if dialect is None:
        raise NotImportedError(at, "calls of this mode are not routed here; passthrough takes them")
    if dialect == "responses" and "responses" not in site.dialects:
        raise NotImportedError(at, "whether that address takes Responses is not known here")
    if site.dialects == ("messages",) or (dialect == "chat" and "chat" not in site.dialects):
        raise NotImportedError(at, f"{site.kind} takes no such calls")
    return (dialect,)


def _settings(params: Fields, dialect: str) -> dict[str, Any]:
    """Return what goes out with every call."""
    found = {}
    for name in sorted(SETTINGS[dialect]):
        value = params.take(name)
        if value is None:
            continue
        if why := _no_setting(params.reading, name, value):
            params.reading.leave(params.at(name), why)
        else:
            found[name] = value
    return {"params": found} if found else {}


def _no_setting(reading: Reading, name: str, value: object) -> str:
    """Return why a value cannot go out with every call; "" where it can."""
    if holds_variable(value):
        return SET_IT_HERE.format(name="it")
    if reading.holds_key(value):
        return A_KEY
    if name in NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float)):
        return "a number belongs here"
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return "JSON has no infinity, and nothing that is no number"
    return ""


def _per_mtok(fields: tuple[Fields, Fields], ending: str = "") -> dict[str, float | int]:
    """Return prices in USD a million tokens, by whichever says them; a deployment goes first."""
    found: dict[str, float | int] = {}
    for theirs, ours in PRICES.items():
        for each in fields:
            price = each.number(theirs + ending, most=DEAREST)
            if price is not None:
                exact = Decimal(str(price)) * 1_000_000
                found.setdefault(ours, int(exact) if exact == int(exact) else float(exact))
    return found


def _prices(params: Fields, info: Fields) -> dict[str, Any]:
    both = (params, info)
    prices: dict[str, Any] = dict(_per_mtok(both))
    longer = {above: _per_mtok(both, f"_above_{above // 1000}k_tokens") for above in LONG}
    needed = {"input_usd_per_mtok", "output_usd_per_mtok"}
    if not prices.keys() >= needed:
        if prices or any(longer.values()):
            where = info.at("input_cost_per_token")
            info.reading.leave(where, "a price here is that of input and that of output, both")
        return {}
    for above, said in longer.items():
        if said:
            entry = {"above_tokens": above, **prices, **said}
            entry.pop("long_prompts", None)
            prices.setdefault("long_prompts", []).append(entry)
    return {"prices": prices}


def _bounds(params: Fields) -> dict[str, Any]:
    """Return how long a call may take, and how many may be under way."""
    said = {
        "first_token_s": params.number("stream_timeout", least=0.001, most=86_400),
        "answer_s": params.number("timeout", least=0.001, most=86_400),
    }
    timeouts = {name: value for name, value in said.items() if value is not None}
    n_calls = params.whole("max_parallel_requests")
    found: dict[str, Any] = {"timeouts": timeouts} if timeouts else {}
    return found | ({"limits": {"max_in_flight": min(n_calls, 1_000_000)}} if n_calls else {})


def _profile(info: Fields) -> dict[str, Any]:
    """Return what the model can do, as far as that is said."""
    found: dict[str, Any] = {}
    for theirs, ours in (
        ("max_input_tokens", "context_tokens"),
        ("max_output_tokens", "output_tokens"),
    ):
        tokens = info.whole(theirs)
        if tokens is not None:
            found[ours] = tokens
    said = {ours: info.truth(theirs) for theirs, ours in CAPABILITIES.items()}
    able = {name: value for name, value in said.items() if value is not None}
    return found | ({"capabilities": able} if able else {})
