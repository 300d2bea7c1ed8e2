"""Hard constraints: which endpoints may not serve a call, and why. Never relaxed.

What depends on the kind of request only is computed once for each kind; context, output limit
and health are looked at for every call.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import reduce
from operator import or_

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bandit.limits import NO_LIMITS, Limits
from router.config.compiled import Configuration
from router.endpoints.capabilities import Needs
from router.endpoints.catalog import Catalog, Endpoint
from router.endpoints.entries import DataClass, Dialect
from router.endpoints.health import Health
from router.endpoints.token_sizes import TokenSizes
from router.translation.translations import Translations


class Exclusion(StrEnum):
    """Why an endpoint may not serve a call."""

    DIALECT = "dialect"
    TRANSLATION = "translation"  # something of it cannot be said in the endpoint's dialect
    THINKING = "thinking"  # another thought what it would have to go on from
    DATA_CLASS = "data_class"
    REGION = "region"
    CLIENT_KEY = "client_key"  # it needs the caller's own key, and there is none to pass on
    CAPABILITY = "capability"
    CONTEXT = "context"
    OUTPUT_LIMIT = "output_limit"
    BREAKER = "breaker"
    IN_FLIGHT = "in_flight"
    MAINTENANCE = "maintenance"
    LATENCY = "latency"  # hard limits of the strategy or the call: believed not to keep them
    COST = "cost"
    QUALITY = "quality"
    MAX_COST = "max_cost"  # with all the output that this call asks for it may cost more


PRIVACY = frozenset(
    {
        Exclusion.DIALECT,
        Exclusion.TRANSLATION,
        Exclusion.DATA_CLASS,
        Exclusion.REGION,
        Exclusion.CLIENT_KEY,
    }
)
"""What holds in every mode, also for a model that the caller named."""
BINDING = PRIVACY | {Exclusion.LATENCY, Exclusion.COST, Exclusion.QUALITY, Exclusion.MAX_COST}
"""That, and hard limits: what nobody is asked in spite of, routed or not, drawn or not."""


def exclude(
    reasons: tuple[Exclusion | None, ...], codes: Iterable[Exclusion | None]
) -> tuple[NDArray[np.bool_], tuple[Exclusion | None, ...]]:
    """Return who is left and the reasons once more endpoints are excluded for good.

    Args:
        codes: by arm, why it is; None: it is not. What binds in every mode keeps its name.
    """
    found = tuple(
        known if code is None or known in BINDING else code
        for known, code in zip(reasons, codes, strict=True)
    )
    return np.array([reason is None for reason in found]), found


WISH = "reasoning"
"""What an endpoint lets go of by this name: how much a caller wants it to think."""


class Demand(Struct, frozen=True, kw_only=True):
    """What a call asks of an endpoint."""

    dialect: Dialect
    needs: int  # bits of Needs
    data_class: DataClass
    regions: frozenset[str] | None
    has_credential: bool
    text_bytes: int
    max_tokens: int | None
    translations: Translations  # what it is in other dialects


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Which endpoints may serve a call, and why the others may not."""

    mask: NDArray[np.bool_]  # (n_arms,)
    reasons: tuple[Exclusion | None, ...]
    rests_until: tuple[float, ...] = ()  # monotonic seconds at which breakers may be probed
    contexts: tuple[int, ...] = ()  # tokens; 0 where no limit is known
    untranslated: dict[int, str] = field(default_factory=dict)  # by arm: what cannot be said
    limits: Limits = NO_LIMITS  # what is asked beside; the hard ones are applied

    def least_bad(self, arms: Iterable[int]) -> int | None:
        """Return whom to ask among these where only breakers or context exclude; None: nobody.

        A breaker and maintenance divert, and how long a text is is an estimate: none of them
        refuses a call. Where nobody else may serve, whoever may be back soonest gets it, else the
        first that is under maintenance, else who takes the longest text.
        """
        asked = list(arms)
        resting = [arm for arm in asked if self.reasons[arm] is Exclusion.BREAKER]
        if resting:
            return min(resting, key=lambda arm: self.rests_until[arm])
        shut = next((arm for arm in asked if self.reasons[arm] is Exclusion.MAINTENANCE), None)
        if shut is not None:
            return shut
        small = [arm for arm in asked if self.reasons[arm] is Exclusion.CONTEXT]
        return max(small, key=lambda arm: self.contexts[arm], default=None)

    def exclusions(self, catalog: Catalog) -> dict[str, str]:
        """Return the reason of every excluded endpoint, by its id."""
        return self.said_of(range(len(self.reasons)), catalog)

    def said_of(self, arms: Iterable[int], catalog: Catalog) -> dict[str, str]:
        """Return the reason of each of these that is excluded, by its id."""
        out = {}
        for arm in arms:
            reason, detail = self.reasons[arm], self.untranslated.get(arm)
            if reason is not None:
                shown = f"{reason.value}: {detail}" if detail else reason.value
                out[catalog.endpoints[arm].id] = shown
        return out


class Filter:
    """Applies the constraints; remembers the answers that depend on the kind of request only."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: dict[tuple[object, ...], Eligibility] = {}
        self.lacking = reduce(or_, (~e.capabilities for e in catalog.endpoints), 0)
        self._contexts = tuple(e.context_tokens or 0 for e in catalog.endpoints)
        self._least_context = min(filter(None, self._contexts), default=None)
        self._any_output_limit = any(e.output_limit for e in catalog.endpoints)
        self._any_in_flight = any(e.limits.max_in_flight for e in catalog.endpoints)
        self._translated = frozenset(d for e in catalog.endpoints for d in e.translated)
        self._kept_up = tuple(e for e in catalog.endpoints if e.windows)
        self._agreed = tuple(e for e in catalog.endpoints if e.terms.agreed_until)
        self._minute = -1
        self._shut: frozenset[int] = frozenset()  # arms under maintenance in that minute

    @classmethod
    def of(cls, configuration: Configuration) -> Filter:
        """Return the filter of a configuration's endpoints."""
        return cls(configuration.catalog)

    def apply(
        self, demand: Demand, health: Health, sizes: TokenSizes, now: float, *, at_s: float
    ) -> Eligibility:
        """Return who may serve the call.

        Args:
            now: monotonic seconds.
            at_s: the same time in epoch seconds.
        """
        static = self._static(demand, at_s)
        shut = self._under_maintenance(at_s) if self._kept_up else self._shut
        tokens = demand.text_bytes / sizes.least + (demand.max_tokens or 0)
        unusual = (
            health.troubled
            or shut
            or demand.dialect in self._translated
            or demand.translations.thoughts.have_makers
            or self._any_in_flight
            or (self._least_context is not None and tokens > self._least_context)
            or (self._any_output_limit and demand.max_tokens)
        )
        if not unusual:
            return static
        untranslated = self._untranslated(demand, static)
        reasons = tuple(
            (_why_unsaid(endpoint, demand) if endpoint.index in untranslated else None)
            or known
            or (Exclusion.MAINTENANCE if endpoint.index in shut else None)
            or self._dynamic(endpoint, demand, sizes, health, now)
            for endpoint, known in zip(self._catalog.endpoints, static.reasons, strict=True)
        )
        return Eligibility(
            np.array([r is None for r in reasons]),
            reasons,
            tuple(health.breakers[e.digest].rests_until for e in self._catalog.endpoints),
            self._contexts,
            untranslated,
        )

    def _untranslated(self, demand: Demand, static: Eligibility) -> dict[int, str]:
        """Return by arm what of a call cannot be said to whom it might be sent.

        Where the caller names it, that is also who lacks a capability.
        """
        translations = demand.translations
        have_makers = translations.thoughts.have_makers
        if demand.dialect not in self._translated and not have_makers:
            return {}
        out = {}
        for endpoint, known in zip(self._catalog.endpoints, static.reasons, strict=True):
            if known in (None, Exclusion.CAPABILITY) and (
                have_makers or demand.dialect in endpoint.translated
            ):
                why = translations.refusal(endpoint)
                if why is not None:
                    out[endpoint.index] = why
        return out

    def _under_maintenance(self, at_s: float) -> frozenset[int]:
        """Return the arms that are under maintenance; windows begin and end with a minute."""
        minute = int(at_s // 60)
        if minute != self._minute:
            shut = (e for e in self._kept_up if any(w.holds(at_s) for w in e.windows))
            self._shut, self._minute = frozenset(e.index for e in shut), minute
        return self._shut

    def _static(self, demand: Demand, at_s: float) -> Eligibility:
        lapsed = [e.index for e in self._agreed if e.terms.has_lapsed(at_s)]
        key = (
            tuple(lapsed),
            demand.dialect,
            demand.needs & self.lacking,  # what nobody lacks tells no two kinds apart
            demand.data_class,
            demand.regions,
            demand.has_credential,
        )
        found = self._known.get(key)
        if found is None:
            reasons = tuple(_structural(e, demand, at_s) for e in self._catalog.endpoints)
            found = Eligibility(np.array([r is None for r in reasons]), reasons)
            self._known[key] = found
        return found

    def _dynamic(
        self, endpoint: Endpoint, demand: Demand, sizes: TokenSizes, health: Health, now: float
    ) -> Exclusion | None:
        most, most_output = endpoint.context_tokens, endpoint.output_limit
        if most_output and (demand.max_tokens or 0) > most_output:
            return Exclusion.OUTPUT_LIMIT
        if most is not None:
            tokens = demand.text_bytes / sizes.bytes_per_token(endpoint.digest)
            if tokens + (demand.max_tokens or 0) > most:
                return Exclusion.CONTEXT
        if health.is_blocked(endpoint.digest, now):
            return Exclusion.BREAKER
        in_flight = health.breakers[endpoint.digest].in_flight
        if endpoint.limits.max_in_flight and in_flight >= endpoint.limits.max_in_flight:
            return Exclusion.IN_FLIGHT
        return None


def _why_unsaid(endpoint: Endpoint, demand: Demand) -> Exclusion:
    """Return why a call cannot be said to an endpoint: in its dialect, or at all."""
    is_spoken = demand.dialect in endpoint.dialects
    return Exclusion.THINKING if is_spoken else Exclusion.TRANSLATION


def _structural(endpoint: Endpoint, demand: Demand, at_s: float) -> Exclusion | None:
    if not endpoint.takes(demand.dialect):
        return Exclusion.DIALECT
    if demand.data_class.level > endpoint.class_at(at_s).level:
        return Exclusion.DATA_CLASS
    if demand.regions is not None and endpoint.region not in demand.regions:
        return Exclusion.REGION
    if endpoint.client_auth and not demand.has_credential:
        return Exclusion.CLIENT_KEY
    needs = demand.needs
    if demand.dialect not in endpoint.dialects and WISH in endpoint.drop:
        needs &= ~Needs.REASONING  # a translation may leave that wish out here
    if needs & ~endpoint.capabilities:
        return Exclusion.CAPABILITY
    return None
