"""What one entry says of another, and is not so."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress

from router.config.bindings import check_bindings
from router.config.budget_checks import check_budgets
from router.config.claims import check_claims
from router.config.entries import (
    NO_INCUMBENT,
    AppEntry,
    File,
    Mode,
    UnitKind,
    UserEntry,
    is_reserved,
)
from router.config.extended_checks import check_extended
from router.config.keys import DEFAULT_APP, HeldKeyEntry, digest_of, plain_key, short_id
from router.config.levels import implied_leaves, level_problem
from router.config.lines import shown
from router.config.masking import HIDDEN, NO_KEY_HERE, Place, is_name_of_variable, masked
from router.config.named import check_name
from router.config.notices import check_notices
from router.config.policy_checks import check_policies
from router.config.rate_checks import check_rates
from router.config.trades import check_trades
from router.endpoints.auth import AuthEntry
from router.endpoints.base_url import part_user, without_user
from router.endpoints.entries import (
    TRANSLATED,
    Dialect,
    EndpointEntry,
    ProviderEntry,
)
from telemetry.address import parse_topology
from telemetry.errors import StoreUnavailable
from telemetry.keyring import LEAST_CHARACTERS

SEALS = ("seal_secret", "seal_secret_before")

RESERVED = "this name means that the sidecar chooses, and reaches no provider; name a model"


def cross_check(entries: File) -> Iterator[tuple[Place, str, str]]:
    """Yield what one entry says of another, and is not so: place, value, hint."""
    ids = [e.id for e in entries.endpoints]
    tasks = [*entries.all_tasks, *implied_leaves(entries.all_tasks)]
    first = {id_: i for i, id_ in reversed(list(enumerate(ids)))}
    for i, endpoint in enumerate(entries.endpoints):
        yield from _check_endpoint(i, endpoint, entries, first)
    for name in filter(is_reserved, entries.models):
        yield ("models", name), name, RESERVED
    for name in entries.tasks:
        if (problem := level_problem(name)) is not None:
            yield ("tasks", name), name, problem
    for name, provider in entries.providers.items():
        yield from _check_auth(("providers", name, "auth"), provider.auth)
        yield from _check_one_auth(("providers", name), provider.base_url, provider.auth)
    yield from check_claims(entries.providers)
    yield from check_policies(entries)
    yield from check_bindings(entries)
    yield from check_trades(entries)
    yield from check_budgets(entries)
    yield from check_rates(entries)
    yield from check_extended(entries)
    yield from check_notices(entries.notices)
    for name, strategy in entries.strategies.items():
        yield from check_name(
            ("strategies", name, "incumbent"), strategy.incumbent, [*ids, NO_INCUMBENT], "endpoint"
        )
    for name, app in entries.apps.items():
        where: Place = ("apps", name)
        yield from check_name((*where, "task"), app.task, tasks, "task")
        yield from check_name(
            (*where, "incumbent"), app.incumbent, [*ids, NO_INCUMBENT], "endpoint"
        )
        yield from check_name((*where, "endpoint"), app.endpoint, ids, "endpoint")
        if app.mode is Mode.PINNED and app.endpoint is None:
            yield (*where, "mode"), "pinned", "name the endpoint: endpoint: <id>"
        if app.locked and app.unit is UnitKind.CALL:
            yield (*where, "locked"), "true", "where unit is call nothing is kept; leave one out"
    for at, key in _callers_keys(entries):
        yield from _check_own_key(at, key)
    yield from _check_keys(entries)
    yield from _check_server(entries)


def _callers_keys(entries: File) -> Iterator[tuple[Place, AuthEntry | str]]:
    """Yield the keys of apps and users, and where they stand."""
    holders: Mapping[str, Mapping[str, AppEntry | UserEntry]]
    holders = {"apps": entries.apps, "users": entries.users}
    for section, named in holders.items():
        for name, entry in named.items():
            for i, key in enumerate(entry.keys):
                at: Place = (section, name, "keys", i)
                yield (*at, "key") if isinstance(key, HeldKeyEntry) else at, plain_key(key)


def _check_keys(entries: File) -> Iterator[tuple[Place, str, str]]:
    """Yield keys that stand for two callers: whose call would it be?"""
    places: list[tuple[Place, AuthEntry | str]] = []
    if entries.server.admin_key:
        places.append((("server", "admin_key"), entries.server.admin_key))
    places += _callers_keys(entries)
    for field in SEALS:
        if (secret := getattr(entries.server, field)) is not None:
            places.append((("server", field), secret))
    seen: dict[bytes, Place] = {}
    for where, key in places:
        if isinstance(key, AuthEntry) and key.command is not None:
            continue  # it is refused, and not run for that
        try:
            digest = digest_of(key)
        except LookupError:
            continue
        first = seen.setdefault(digest, where)
        if first == where or (first[-1] in SEALS and where[-1] in SEALS):
            continue
        hint = f"the same key as {shown(first)}; give each caller its own"
        if where[-1] in SEALS:
            hint = f"the same as {shown(first)}: whoever has that could make decision ids up"
        if isinstance(key, str):
            yield where, short_id(key), hint
        else:
            field, source = key.source
            yield (*where, field), HIDDEN if _is_hidden(key) else source, hint


def _check_endpoint(
    i: int, endpoint: EndpointEntry, entries: File, first: dict[str, int]
) -> Iterator[tuple[Place, str, str]]:
    where: Place = ("endpoints", i)
    if first[endpoint.id] < i:
        yield (*where, "id"), endpoint.id, "another endpoint has this id; ids are unique"
    if endpoint.id == NO_INCUMBENT or is_reserved(endpoint.id):
        yield (*where, "id"), endpoint.id, "this name has a meaning of its own; choose another"
    for field, name in (("model", endpoint.model), ("upstream_model", endpoint.upstream_model)):
        if is_reserved(name or ""):
            yield (*where, field), name or "", RESERVED
    yield from check_name((*where, "provider"), endpoint.provider, entries.providers, "provider")
    if entries.models:
        yield from check_name((*where, "model"), endpoint.model, entries.models, "model")
    provider = entries.providers.get(endpoint.provider or "")
    is_known = endpoint.provider is None or provider is not None
    if is_known and not endpoint.base_url and not (provider and provider.base_url):
        yield (*where, "base_url"), "missing", "give it, or name a provider that has one"
    yield from _check_translate(where, endpoint, provider)
    yield from _check_auth((*where, "auth"), endpoint.auth)
    if endpoint.base_url or endpoint.auth:  # else what is wrong is the provider's
        base_url = endpoint.base_url or (provider.base_url if provider else None)
        yield from _check_one_auth(
            where, base_url, endpoint.auth or (provider.auth if provider else None)
        )


def _check_translate(
    where: Place, endpoint: EndpointEntry, provider: ProviderEntry | None
) -> Iterator[tuple[Place, str, str]]:
    """Yield a dialect that needs no translation at this endpoint, or has none."""
    if endpoint.translate is None:
        return  # a provider's holds for those of its endpoints that it means something for
    spoken = endpoint.dialects or (provider and provider.dialects) or [Dialect.CHAT]
    for i, dialect in enumerate(endpoint.translate.calls_of):
        at: Place = (*where, "translate", "from", i)
        if dialect in spoken:
            yield at, dialect, "the endpoint speaks it: such calls pass as they come; leave it out"
        elif not any(to in spoken for to in TRANSLATED[dialect]):
            into = " or ".join(TRANSLATED[dialect])
            yield at, dialect, f"it can be said in {into}, and the endpoint speaks neither"


def _check_one_auth(
    where: Place, base_url: str | None, auth: object
) -> Iterator[tuple[Place, str, str]]:
    """Yield a base URL whose user and password stand beside another way to sign in."""
    _, signed_in = part_user(base_url or "")
    if signed_in and auth not in (None, "none"):
        hint = "user and password are sent as Basic authorization, beside which there is no auth"
        yield (*where, "base_url"), without_user(base_url or ""), f"{hint}; leave one of them out"


def _check_server(entries: File) -> Iterator[tuple[Place, str, str]]:
    server = entries.server
    yield from _check_own_key(("server", "admin_key"), server.admin_key)
    for field in SEALS:
        yield from _check_seal(("server", field), getattr(server, field))
    keyed = any(True for _ in _callers_keys(entries))
    if not server.is_loopback and not keyed:
        yield (
            ("server", "host"),
            server.host,
            "bound beyond this machine every app needs a key: apps.<name>.keys: [{env: NAME}]",
        )
    if not keyed and entries.apps and DEFAULT_APP not in entries.apps:
        yield (
            ("apps",),
            ", ".join(entries.apps),
            f"without keys every call belongs to app {DEFAULT_APP!r}: add it, or give keys",
        )
    if entries.store.url_env and not os.environ.get(entries.store.url_env):
        name = entries.store.url_env
        hint = f"environment variable {name} is not set; export it"
        if not is_name_of_variable(name):
            name, hint = HIDDEN, "name the environment variable that holds the URL"
        yield ("store", "url_env"), name, hint
    elif entries.store.url_env:
        name = entries.store.url_env
        problem = address_problem(entries.store.url() or "", named=name)
        if problem is not None:
            yield ("store", "url_env"), name, problem


def address_problem(url: str, *, named: str) -> str | None:
    """Return why a store's address is refused; None where it is not."""
    try:
        parse_topology(url, named=named)
    except StoreUnavailable as error:
        return str(error)
    return None


def _check_own_key(where: Place, key: object) -> Iterator[tuple[Place, str, str]]:
    """Yield what is wrong with a key of ours or our callers': these do not end by themselves."""
    if isinstance(key, AuthEntry) and key.command is not None:
        hint = "only endpoints take their keys from a command; write {env: NAME} or {file: PATH}"
        yield (*where, "command"), HIDDEN, hint
    else:
        yield from _check_auth(where, key)


def _check_auth(where: Place, auth: object) -> Iterator[tuple[Place, str, str]]:
    if isinstance(auth, AuthEntry):
        part, source = auth.source
        if _is_hidden(auth):
            yield (*where, part), HIDDEN, NO_KEY_HERE
            return
        try:
            auth.require()
        except LookupError as error:
            yield (*where, part), source, str(error)


def _check_seal(where: Place, auth: AuthEntry | None) -> Iterator[tuple[Place, str, str]]:
    """Yield a secret that is not there, or that whoever holds a decision id could guess."""
    yield from _check_own_key(where, auth)
    if auth is None or auth.command is not None or _is_hidden(auth):
        return
    with suppress(LookupError):
        if len(auth.secret()) < LEAST_CHARACTERS:
            part, source = ("env", auth.env) if auth.env else ("file", str(auth.file))
            hint = f"it has less than {LEAST_CHARACTERS} characters; make one: openssl rand -hex 32"
            yield (*where, part), str(source), hint


def _is_hidden(auth: AuthEntry) -> bool:
    """Return whether a key itself was written where its source belongs."""
    if auth.command is not None:
        return any(masked(word) != word for word in auth.command)
    if auth.env is not None:
        return not is_name_of_variable(auth.env)
    return masked(str(auth.file)) != str(auth.file) and not auth.file_exists
