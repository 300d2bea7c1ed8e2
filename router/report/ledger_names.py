"""By which names the ledger's digests are known: of what is configured, and what the store knows.

Users go by the names that the configuration has; whoever it does not name is a keyed hash, which
tells nobody who that is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from router.config.compiled import Configuration
from router.decision.units import user_hash
from router.errors import RequestRejected
from router.policy.hints import short_name
from router.report.views import names_of
from telemetry import keys
from telemetry.digests import digest8
from telemetry.ledger_questions import Dimension
from telemetry.numbers import brief
from telemetry.store import Client

USER_BYTES = 8
HEX_DIGITS = 16
MODEL_MARK = b"model"


@dataclass(slots=True)
class LedgerNames:
    """What digests stand for."""

    of_digest: dict[int, str] = field(default_factory=dict)
    of_model: dict[int, str] = field(default_factory=dict)
    of_user: dict[int, str] = field(default_factory=dict)
    of_tag: dict[int, str] = field(default_factory=dict)

    def name(self, dimension: Dimension, digest: int) -> str | None:
        """Return a name; what has none is its digest in hex, and 0 is nothing."""
        if digest == 0:
            return None
        if dimension is Dimension.USER:
            return self.of_user.get(digest) or user_in_hex(digest)
        known = {Dimension.MODEL: self.of_model, Dimension.TAG: self.of_tag}
        of_it = known.get(dimension, self.of_digest)
        return of_it.get(digest) or self.of_digest.get(digest) or f"{digest:016x}"


def user_in_hex(digest: int) -> str:
    """Return a user's keyed hash as it is shown."""
    return digest.to_bytes(USER_BYTES, "little").hex()


def known_names(client: Client, configuration: Configuration) -> dict[int, str]:
    """Return what digests stand for, by the store and, above that, by the configuration.

    Raises:
        redis.RedisError: the store is away.
    """
    found = client.hgetall(keys.NAMES).items()
    told = {int(digest, 16): name.decode("utf-8", "replace") for digest, name in found}
    return told | names_of(configuration)


def model_names(client: Client, configuration: Configuration) -> dict[int, str]:
    """Return what answers of listed endpoints called their models, by digest.

    Raises:
        redis.RedisError: the store is away.
    """
    names = {name for e in configuration.catalog.endpoints for name in (e.model, e.upstream_model)}
    for place in client.hkeys(keys.SERVED):
        _, _, of_it = place.partition(b":")
        _, _, marked = of_it.partition(b":")
        mark, _, name = marked.partition(b":")
        if mark == MODEL_MARK:
            names.add(name.decode("utf-8", "replace"))
    return {digest8(name): name for name in names}


def user_names(client: Client, configuration: Configuration) -> dict[int, str]:
    """Return the configured users by their keyed hashes in every app.

    Raises:
        redis.RedisError: the store is away.
    """
    secret = client.get(keys.SECRET)
    if not secret:
        return {}
    names = sorted(configured_users(configuration))
    return {_digest(secret, app, name): name for app in configuration.apps for name in names}


def configured_users(configuration: Configuration) -> set[str]:
    """Return the users that the configuration names."""
    held = (holder.user for holder in configuration.key_holders.values())
    return {*configuration.users, *(name for name in held if name is not None)}


def tag_names(client: Client, digests: Iterable[int]) -> dict[int, str]:
    """Return what some tags are called, as routers told.

    Raises:
        redis.RedisError: the store is away.
    """
    wanted = sorted(digests)
    if not wanted:
        return {}
    found = client.hmget(keys.TAG_NAMES, [f"{digest:016x}" for digest in wanted])
    told = zip(wanted, found, strict=True)
    return {digest: name.decode("utf-8", "replace") for digest, name in told if name is not None}


def app_digests(app: str, configuration: Configuration, known: Mapping[int, str]) -> frozenset[int]:
    """Return the digest of an app that is or was configured.

    Raises:
        RequestRejected: it never was.
    """
    digest = digest8("app", app)
    if app not in configuration.apps and known.get(digest) != app:
        names = ", ".join(list(configuration.apps)[:12])
        raise _unknown("app", app, f"no such app; known: {names}")
    return frozenset({digest})


def user_digests(
    user: str, app: str | None, client: Client, configuration: Configuration
) -> frozenset[int]:
    """Return the keyed hashes of a user, named as its calls are, or as it is shown.

    Raises:
        RequestRejected: the store has no secret of users, so it has no user either.
        redis.RedisError: the store is away.
    """
    secret = client.get(keys.SECRET)
    if not secret:
        raise _unknown("user", user, "no call of any user was booked yet")
    apps = configuration.apps if app is None else (app,)
    found = {_digest(secret, each, user) for each in apps}
    if is_hex(user):
        found.add(int.from_bytes(bytes.fromhex(user), "little"))
    return frozenset(found)


def tag_digests(tag: str, client: Client) -> frozenset[int]:
    """Return the digests of a tag, named `key=value`, or as it is shown.

    Raises:
        RequestRejected: no call ever named it.
        redis.RedisError: the store is away.
    """
    wanted = tag.encode()
    found = {int(d, 16) for d, name in client.hgetall(keys.TAG_NAMES).items() if name == wanted}
    if is_hex(tag):
        found.add(int(tag, 16))
    if not found:
        raise _unknown("tag", tag, "no call named it; write it as `key=value`")
    return frozenset(found)


def is_hex(name: str) -> bool:
    """Return whether a name is a digest as it is shown."""
    return len(name) == HEX_DIGITS and all(c in "0123456789abcdef" for c in name)


def _digest(secret: bytes, app: str, user: str) -> int:
    return int.from_bytes(user_hash(secret, app, short_name(user)), "little")


def _unknown(field: str, value: str, fix: str) -> RequestRejected:
    return RequestRejected("invalid_request", f"{field}: {brief(value)}: {fix}", param=field)
