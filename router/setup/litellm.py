"""A configuration of LiteLLM's proxy as one of ours: what can be said here is, the rest is named.

It is read, and nothing else: no network, no variable's value, nothing of LiteLLM's own code. What
its fields mean is what its documentation says; nothing is guessed, and no key is copied.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from router.config.entries import is_reserved
from router.config.lines import shown, spot_of
from router.config.masking import masked_problem
from router.config.tree import Tree, parse_yaml
from router.endpoints.entry import is_name
from router.endpoints.model_names import is_same_model
from router.errors import ConfigError, Problem
from router.setup.draft import Draft
from router.setup.found import plain_notes
from router.setup.litellm_deployments import Deployment, read_deployment
from router.setup.litellm_identity import unknown_note
from router.setup.litellm_names import with_aliases
from router.setup.litellm_reading import Reading, safe
from router.setup.litellm_secrets import VARIABLE, keys_in
from router.setup.litellm_settings import app_entry_of, credentials_of

MAX_ID = 120
"""Characters of a name, and room for the number that makes it unique."""
A_START = "a configuration of LiteLLM's begins with model_list:"
PARAMS = (
    "params go out with every call and go before what a client says; in LiteLLM the client's own "
    "word goes first"
)


def read_litellm(text: str, *, file: str, app: str) -> Draft:
    """Return what a configuration of LiteLLM's says, and all of it that ours does not.

    Args:
        file: the file's name, for problems.
        app: to which the calls belong.

    Raises:
        ConfigError: it is no YAML, or nothing of it can be taken over; with every reason.
    """
    tree = _tree(text, file)
    root: dict[str, Any] = dict(tree.root)
    listed = root.get("model_list")
    if not isinstance(listed, list) or not listed:
        raise _no_list(tree, file, listed)
    reading = _reading(text, root, app)
    reading.credentials = credentials_of(reading, root.get("credential_list"))
    read = [read_deployment(reading, i, each) for i, each in enumerate(listed)]
    found = [one for one in read if one is not None]
    kept = [one for one in found if not one.is_rest]
    if not kept:
        raise _nothing(reading, tree, file, has_rest=bool(found))
    models = list(dict.fromkeys(one.model for one in kept))
    kept = with_aliases(reading, root, kept)
    app_entry = app_entry_of(reading, root, models)
    _tell_tighter(reading, kept, app_entry)
    providers, names = _providers(reading, found, [one.model for one in kept])
    endpoints = _endpoints(reading, kept, names)
    reading.notes += plain_notes(entry["base_url"] for entry in providers.values())
    if kept[0].model != models[0]:
        app_entry["incumbent"] = next(e["id"] for e in endpoints if e["model"] == models[0])
    return Draft(
        providers=providers,
        endpoints=tuple(endpoints),
        app=app,
        app_entry=app_entry,
        left_out=tuple(reading.left_out),
        notes=tuple(reading.notes),
    )


def _tree(text: str, file: str) -> Tree:
    """Return the tree in a text.

    Raises:
        ConfigError: there is none, or something in it is no YAML that means one thing.
    """
    try:
        tree = parse_yaml(text, file)
    except ConfigError as error:
        problems = [
            Problem(
                p.line, p.field, p.value, A_START if p.value != f"{len(text)} bytes" else p.hint
            )
            if p.field == "file"
            else p
            for p in error.problems
        ]
        raise ConfigError(file, problems) from None
    if tree.findings.problems:
        found = [masked_problem(p) for p in tree.findings.problems]
        raise ConfigError(file, sorted(found, key=lambda p: p.line))
    return tree


def _no_list(tree: Tree, file: str, listed: object) -> ConfigError:
    is_there = "model_list" in tree.root
    is_empty = listed is None or listed == []
    value = "not a list" if not is_empty else "empty" if is_there else "missing"
    hint = f"{A_START} and lists what may be called; models in a database are not read"
    return ConfigError(file, [Problem(_line(tree, ("model_list",)), "model_list", value, hint)])


def _reading(text: str, root: Mapping[str, Any], app: str) -> Reading:
    written = root.get("environment_variables")
    texts = written.items() if isinstance(written, dict) else ()
    return Reading(
        app,
        {name: value for name, value in texts if isinstance(value, str) and VARIABLE not in value},
        frozenset(re.findall(rf"{re.escape(VARIABLE)}(\w+)", text)),
        frozenset(keys_in(root)),
    )


def _line(tree: Tree, where: tuple[str | int, ...]) -> int:
    return spot_of(tree.findings.spots, where).line or 1


def _nothing(reading: Reading, tree: Tree, file: str, *, has_rest: bool) -> ConfigError:
    """Return why nothing can be taken over: every reason, with its line."""
    problems = [
        Problem(_line(tree, where), left.place, "left out", left.why)
        for where, left in zip(reading.places, reading.left_out, strict=True)
    ]
    if has_rest:
        hint = "list one model at least; a pattern alone names none"
        problems.append(Problem(_line(tree, ("model_list",)), "model_list", "only *", hint))
    return ConfigError(file, problems)


def _tell_tighter(
    reading: Reading, kept: Sequence[Deployment], app_entry: Mapping[str, Any]
) -> None:
    """Name the deployments that LiteLLM gives more time than its settings do."""
    usual = app_entry.get("timeouts", {})
    for place in {
        (*one.place, "litellm_params", "timeout"): None
        for one in kept
        for name, value in one.entry.get("timeouts", {}).items()
        if value > usual.get(name, value)
    }:
        why = "it is written at the endpoint, and the settings', tighter, holds for the app instead"
        reading.leave(place, why)


def _providers(
    reading: Reading, found: Sequence[Deployment], models: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the providers, and the name of each by what it says."""
    providers: dict[str, dict[str, Any]] = {}
    names: dict[str, str] = {}
    for one in found:
        key = _key_of(one)
        if one.is_rest and any("passthrough" in each for each in providers.values()):
            why = "unlisted models go to one provider, and an earlier entry takes them"
            reading.leave((*one.place, "model_name"), why)
            continue
        if key not in names:
            names[key] = _free(one.site.name, {*providers, *models})
            providers[names[key]] = _provider(one)
        if not one.is_rest:
            continue
        dialects = [d for d in one.site.dialects if d in ("chat", "messages", "responses")]
        providers[names[key]]["passthrough"] = {"dialects": dialects}
        reading.notes.append(f"unlisted models go to {names[key]} unchanged: {', '.join(dialects)}")
    return providers, names


def _key_of(one: Deployment) -> str:
    return repr((one.site.kind, one.site.base_url, one.site.auth, one.site.dialects))


def _provider(one: Deployment) -> dict[str, Any]:
    site = one.site
    entry: dict[str, Any] = {"base_url": site.base_url}
    if site.auth is not None:
        entry["auth"] = site.auth
    if site.dialects != ("chat",):
        entry["dialects"] = list(site.dialects)
    # LiteLLM takes calls of either maker's clients for every model.
    others = [d for d in ("chat", "messages", "responses") if d not in site.dialects]
    if site.dialects != ("completions",):
        entry["translate"] = {"from": others}
    return entry


def _free(name: str, taken: set[str]) -> str:
    """Return a name that nobody else has, the one that is wished for if that is free."""
    name = name if is_name(name) else "provider"
    tried = name[:MAX_ID]
    n = 2
    while tried in taken or is_reserved(tried) or tried == "none":
        tried = f"{name[:MAX_ID]}-{n}"
        n += 1
    return tried


def _endpoints(
    reading: Reading, kept: Sequence[Deployment], names: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the endpoints with their ids; hosts of one name that serve other models are apart."""
    models = {one.model for one in kept}
    n_hosts = Counter(one.model for one in kept)
    ids = set(names.values())
    really: dict[str, str] = {}
    unknown: dict[str, list[tuple[str, str]]] = {}
    out: list[dict[str, Any]] = []
    for one in kept:
        provider = names[_key_of(one)]
        wished = one.own_id
        # Who is called by id is pinned; so no id is what clients call a model.
        if wished is None or wished in models or wished in ids:
            wished = f"{one.model}@{provider}"
        id_ = _free(wished, ids | models)
        ids.add(id_)
        entry = {"id": id_, "model": one.model, "provider": provider, **deepcopy(one.entry)}
        if one.known_as is None:
            unknown.setdefault(one.site.kind, []).append((safe(shown(one.at_model)), id_))
        else:
            first = really.setdefault(one.model, one.known_as)
            if not is_same_model(first, one.known_as):
                entry["equivalent"] = False
                reading.notes.append(
                    f"{id_} serves {safe(one.known_as)}, and the first of {safe(one.model)} is "
                    f"{safe(first)}: they are kept apart by equivalent: false"
                )
        out.append(entry)
    reading.notes += [unknown_note(kind, those) for kind, those in unknown.items()]
    _tell_of_all(reading, out, n_hosts)
    return out


def _tell_of_all(
    reading: Reading, out: Sequence[Mapping[str, Any]], n_hosts: Mapping[str, int]
) -> None:
    """Say what holds for all endpoints."""
    if any("params" in entry for entry in out):
        reading.notes.append(PARAMS)
    apart = Counter(e["model"] for e in out if e.get("opaque") or e.get("equivalent") is False)
    shared = [name for name, n in n_hosts.items() if n - apart[name] > 1]
    if shared:
        listed = ", ".join(safe(name) for name in shared[:8]) + (" …" if len(shared) > 8 else "")
        reading.notes.append(
            f"several hosts: {listed}; strategy same-model shares calls among them"
        )
