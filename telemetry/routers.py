"""The routers of a store: what each says of itself every ten seconds.

Who ends in order takes its word back; who is killed is shown until it was silent for a minute, and
forgotten after a day. Nothing that is said is a secret: no key, no prompt, no address with one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from telemetry import keys
from telemetry.damaged import DAMAGED, Moment
from telemetry.store import Client

SAID_EVERY_S = 10.0
GONE_AFTER_MS = 60_000
"""Who was silent for so long is not shown any more: five words were missed."""
PRUNED_AFTER_MS = 86_400_000
HEX_DIGITS = 12
"""Of a configuration's digest, as it is shown."""


class RouterTrouble(Struct, frozen=True, kw_only=True):
    """What needs somebody's attention at one router."""

    subject: str  # endpoint, file, store
    text: str  # in words, without the subject: "wrong key"
    since_ms: Moment = 0  # 0: not known
    fix: str = ""
    is_urgent: bool = True
    kind: str = ""  # one word for programs; with the subject it names the trouble

    @property
    def key(self) -> str:
        """What tells two troubles apart."""
        return f"{self.kind}:{self.subject}"


class RouterPresence(Struct, frozen=True, kw_only=True):
    """What a router says of itself."""

    version: str
    configuration: str  # first hexadecimal digits of the digest of the text in force
    apps: dict[str, str]  # name -> digest of its definition, in 8 hexadecimal digits
    seen_ms: Moment  # by the store's clock
    troubles: list[RouterTrouble] = []
    name: str = ""  # is its field in the store

    def age_s(self, now_ms: int) -> float:
        """Return for how long it has been silent."""
        return max(now_ms - self.seen_ms, 0) / 1000


def say(client: Client, presence: RouterPresence) -> None:
    """Write a router's word.

    Raises:
        redis.RedisError, OSError: the store is away.
    """
    client.hset(keys.ROUTERS, presence.name, msgspec.json.encode(presence))


def leave(client: Client, name: str) -> None:
    """Take it back, at an orderly end.

    Raises:
        redis.RedisError, OSError: the store is away.
    """
    client.hdel(keys.ROUTERS, name)


def read_routers(
    client: Client, *, now_ms: int, within_ms: int = GONE_AFTER_MS
) -> list[RouterPresence]:
    """Return the routers that were heard of lately, by name; what cannot be read is left out.

    Raises:
        redis.RedisError, OSError: the store is away.
    """
    known = _parse_all(client.hgetall(keys.ROUTERS))
    return sorted((r for r in known if abs(now_ms - r.seen_ms) < within_ms), key=lambda r: r.name)


def prune(client: Client, *, now_ms: int) -> None:
    """Drop routers that were silent for a day, and what is no router's word.

    Raises:
        redis.RedisError, OSError: the store is away.
    """
    found: dict[bytes, bytes] = client.hgetall(keys.ROUTERS)
    young = {r.name for r in _parse_all(found) if abs(now_ms - r.seen_ms) < PRUNED_AFTER_MS}
    gone = [name for name in found if name.decode("utf-8", "replace") not in young]
    if gone:
        client.hdel(keys.ROUTERS, *gone)


def conflicting_apps(routers: Iterable[RouterPresence]) -> dict[str, dict[str, list[str]]]:
    """Return the apps that routers define otherwise: by app and digest, the routers' names."""
    found: defaultdict[str, defaultdict[str, list[str]]]
    found = defaultdict(lambda: defaultdict(list))
    for router in routers:
        for app, digest in router.apps.items():
            found[app][digest].append(router.name)
    return {app: dict(by) for app, by in sorted(found.items()) if len(by) > 1}


def _parse_all(found: dict[bytes, bytes]) -> list[RouterPresence]:
    known = []
    for name, data in found.items():
        try:
            told = msgspec.json.decode(data, type=RouterPresence)
        except DAMAGED:
            continue
        known.append(msgspec.structs.replace(told, name=name.decode("utf-8", "replace")))
    return known
