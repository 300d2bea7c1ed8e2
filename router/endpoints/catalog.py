"""What can be called, compiled: every endpoint in the order in which it is listed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np
from numpy.typing import NDArray

from bandit.posterior import Arms
from router.endpoints.capabilities import Reasoning
from router.endpoints.data_classes import DataClass
from router.endpoints.entries import Dialect, LimitsEntry, TimeoutsEntry
from router.endpoints.keys import HeldKey, KeyRing
from router.endpoints.maintenance import MaintenanceWindow
from router.endpoints.places import Whereabouts
from router.endpoints.profile import ModelProfile
from router.endpoints.providers import Claims, Provider
from router.endpoints.rate_limits import NO_RATES, EndpointRates
from router.endpoints.rates import NANO_PER_TOKEN, PriceList
from router.endpoints.terms import HostingTerms
from router.net.pool import Target


@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """A compiled endpoint; `index` is its place in every array."""

    index: int
    id: str
    model: str
    upstream_model: str
    served_as: tuple[str, ...] | None  # names that its answers may carry; None: any
    provider: str
    dialects: frozenset[Dialect]
    targets: dict[Dialect, Target]  # of each that it speaks
    translated: dict[Dialect, Dialect]  # of calls that it takes: into which that it speaks
    drop: frozenset[str]  # what a translation may leave out
    key: HeldKey | None
    client_auth: bool
    params: dict[str, bytes]  # name -> JSON
    prices: PriceList | None
    has_machine: bool  # that is paid by the hour, now or later
    place: Whereabouts
    windows: tuple[MaintenanceWindow, ...]  # of maintenance
    says_class: bool  # how sensitive what it receives may be; else nobody did
    timeouts: TimeoutsEntry
    limits: LimitsEntry
    profile: ModelProfile
    stream_usage: bool
    digest: int
    group: int
    forwarded: frozenset[bytes]  # names of headers that travel beside the usual ones
    may_split: bool  # its own labels may end its equivalence
    is_split: bool = False  # they did: it has a group of its own
    rates: EndpointRates = NO_RATES  # what it takes a minute
    most_in_flight: int | None = field(init=False)  # calls at a time, by its limits

    def __post_init__(self) -> None:
        object.__setattr__(self, "most_in_flight", self.limits.max_in_flight)

    def takes(self, dialect: Dialect) -> bool:
        """Return whether it takes calls of a dialect: as they come, or translated."""
        return dialect in self.dialects or dialect in self.translated

    def spoken_for(self, dialect: Dialect) -> Dialect:
        """Return the dialect in which a call of one that it takes goes to it."""
        return dialect if dialect in self.dialects else self.translated[dialect]

    @property
    def auth_header(self) -> tuple[bytes, bytes] | None:
        """The key that it is called with now, if that is ours."""
        return self.key.header if self.key is not None else None

    @property
    def terms(self) -> HostingTerms:
        """Where it is, what becomes of data there, how it is paid."""
        return self.place.terms

    @property
    def region(self) -> str | None:
        """Where it is."""
        return self.terms.region

    def class_at(self, at_s: float) -> DataClass:
        """Return the most sensitive class that it may receive at a moment, in epoch seconds."""
        return self.place.class_at(at_s)

    @property
    def target(self) -> Target:
        """Where it is: that of a dialect which it speaks."""
        return next(iter(self.targets.values()))

    @property
    def context_tokens(self) -> int | None:
        """The most that it takes and writes together."""
        return self.profile.context_tokens

    @property
    def output_tokens(self) -> int | None:
        """The most that its model writes."""
        return self.profile.output_tokens

    @property
    def output_limit(self) -> int | None:
        """The most that it may be asked to write: by its model, and by its own limit."""
        most = self.limits.max_output_tokens, self.profile.output_tokens
        return min(filter(None, most), default=None)

    @property
    def reasoning(self) -> Reasoning | None:
        """How it is told how much to think; None: not known."""
        return self.profile.reasoning

    @property
    def capabilities(self) -> int:
        """What it can do, as bits of `Needs`."""
        return self.profile.capabilities


@dataclass(frozen=True, slots=True, eq=False)
class Catalog:
    """All endpoints, in the order in which they are listed."""

    endpoints: tuple[Endpoint, ...]
    by_id: dict[str, Endpoint]
    by_model: dict[str, tuple[Endpoint, ...]]  # declared and upstream names, as listed
    by_digest: dict[int, Endpoint]
    group_members: tuple[tuple[int, ...], ...]  # arm indices of each group
    kin: tuple[tuple[int, ...], ...]  # by group: itself, then those declared equivalent to it
    claims: Claims  # who takes what is not listed
    key_headers: frozenset[bytes]  # names in which some provider's key travels
    spoken: frozenset[Dialect]  # by some endpoint
    taken: frozenset[Dialect]  # those, and what is translated into them
    keys: KeyRing = field(repr=False)
    arms: Arms = field(repr=False)

    def passthrough(self, path: str, *, by_anthropics: bool = False) -> Provider | None:
        """Return who takes what is not listed, at a path; None: nobody does."""
        return self.claims.taker(path, by_anthropics=by_anthropics)

    @property
    def agreed(self) -> Iterator[tuple[str, date | None]]:
        """Who is used by agreement, and the last days of that."""
        yield from ((e.id, e.terms.agreed_until) for e in self.endpoints)
        yield from ((one.name, one.terms.agreed_until) for one in self.claims)

    @property
    def digests(self) -> NDArray[np.uint64]:
        """(n_arms,) identity digests."""
        return np.array([e.digest for e in self.endpoints], dtype=np.uint64)


def split_off(catalog: Catalog, digests: Set[int]) -> Catalog:
    """Return the catalog in which these endpoints have groups of their own, as if declared so.

    A group's failed calls may still go to whoever was split off from it: a worse answer of the
    same model is better than none.
    """
    keys = [(e.group, e.index if e.digest in digests else -1) for e in catalog.endpoints]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    endpoints = [
        replace(e, group=numbers[key], is_split=e.digest in digests)
        for e, key in zip(catalog.endpoints, keys, strict=True)
    ]
    declared = [group for group, _ in numbers]
    kin = tuple(
        (number, *(n for n, of in enumerate(declared) if of == group and n != number))
        for number, group in enumerate(declared)
    )
    family = [int(catalog.arms.family[group]) for group in declared]
    return assembled(endpoints, family, kin, catalog.claims, catalog.keys)


def assembled(
    endpoints: list[Endpoint],
    family_of_group: list[int],
    kin: tuple[tuple[int, ...], ...],
    claims: Claims,
    keys: KeyRing,
) -> Catalog:
    """Return the catalog of endpoints, with all that follows from them.

    Args:
        family_of_group: groups of one model share a number.
        kin: by group, see `Catalog`.
    """
    by_model: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        for name in {endpoint.model, endpoint.upstream_model}:
            by_model.setdefault(name, []).append(endpoint)
    group = np.array([e.group for e in endpoints], dtype=np.intp)
    at_s = time.time()
    marginal = np.array([_marginal(e, at_s) for e in endpoints])
    return Catalog(
        endpoints=tuple(endpoints),
        by_id={e.id: e for e in endpoints},
        by_model={name: tuple(found) for name, found in by_model.items()},
        by_digest={e.digest: e for e in endpoints},
        group_members=tuple(
            tuple(int(a) for a in np.flatnonzero(group == g)) for g in range(len(family_of_group))
        ),
        kin=kin,
        claims=claims,
        key_headers=frozenset(to.auth_header[0] for to in (*endpoints, *claims) if to.auth_header),
        spoken=frozenset(dialect for e in endpoints for dialect in e.dialects),
        taken=frozenset(dialect for e in endpoints for dialect in Dialect if e.takes(dialect)),
        keys=keys,
        arms=Arms(
            group=group,
            family=np.array(family_of_group, dtype=np.intp),
            input_usd_per_mtok=marginal[:, 0],
            output_usd_per_mtok=marginal[:, 1],
            machine_usd_per_s=marginal[:, 2],
            compared=np.array([e.may_split for e in endpoints], dtype=np.bool_),
        ),
    )


def speakers(endpoints: Iterable[Endpoint], dialect: Dialect) -> tuple[Endpoint, ...]:
    """Return who takes calls of a dialect, as listed: first who speaks it, then who translates."""
    native, translating = [], []
    for endpoint in endpoints:
        if dialect in endpoint.dialects:
            native.append(endpoint)
        elif dialect in endpoint.translated:
            translating.append(endpoint)
    return (*native, *translating)


CALL_PATHS = {
    Dialect.CHAT: "chat/completions",
    Dialect.MESSAGES: "messages",
    Dialect.RESPONSES: "responses",
    Dialect.EMBEDDINGS: "embeddings",
    Dialect.COMPLETIONS: "completions",
}
"""Below the version."""


def _marginal(endpoint: Endpoint, at_s: float) -> tuple[float, float, float]:
    """Return what one more call costs: USD a million tokens in and out, and USD a machine's second.

    NaN where no price is known; nothing under a subscription.
    """
    if endpoint.terms.is_subscribed:
        return 0.0, 0.0, 0.0
    if endpoint.prices is None:
        return np.nan, np.nan, 0.0
    tariff = endpoint.prices.at(at_s)
    usual = tariff.usual.usual
    in_usd, out_usd = (nano / NANO_PER_TOKEN for nano in (usual.tokens_in, usual.tokens_out))
    return in_usd, out_usd, tariff.usd_per_s
