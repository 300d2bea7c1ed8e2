"""Hard constraints: which endpoints may not serve a call, and why. Never relaxed.

What depends on the kind of request only is computed once for each kind; context, output limit
and health are looked at for every call.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bandit.limits import NO_LIMITS, Limits
from router.config.compiled import Configuration
from router.config.exclusions import BINDING, Exclusion
from router.config.rules import MergedPolicy, PolicyRules, why_forbidden
from router.endpoints.capabilities import Needs, names_of
from router.endpoints.catalog import Catalog, Endpoint
from router.endpoints.entries import Dialect
from router.endpoints.health import Health
from router.endpoints.terms import LOCAL
from router.endpoints.token_sizes import TokenSizes
from router.translation.translations import Translations

MAX_KINDS = 8192
"""Kinds of calls whose answers are remembered."""


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
    rules: PolicyRules  # what of the policy decides where it may go
    has_credential: bool
    text_bytes: int
    max_tokens: int | None
    translations: Translations  # what it is in other dialects
    keeps_nothing: bool = False  # at a provider, nor has it passed on


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Which endpoints may serve a call, and why the others may not."""

    mask: NDArray[np.bool_]  # (n_arms,)
    reasons: tuple[Exclusion | None, ...]
    rests_until: tuple[float, ...] = ()  # monotonic seconds at which breakers may be probed
    contexts: tuple[int, ...] = ()  # tokens; 0 where no limit is known
    details: dict[int, str] = field(default_factory=dict)  # by arm: what it lacks or cannot be told
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
            reason, detail = self.reasons[arm], self.details.get(arm)
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
        self.agreed = tuple(e for e in catalog.endpoints if e.terms.agreed_until)
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
        if not (
            demand.keeps_nothing
            or demand.translations.have_makers
            or self.is_unusual(
                demand.dialect,
                demand.text_bytes,
                demand.max_tokens,
                health,
                sizes,
                at_s,
            )
        ):
            return static
        shut = self._under_maintenance(at_s)
        untranslated = self._untranslated(demand, static)
        keeping = self._keeping(demand, static, at_s) if demand.keeps_nothing else {}
        reasons = tuple(
            (_why_unsaid(endpoint, demand) if endpoint.index in untranslated else None)
            # Who lacks a capability may be named all the same: what rules forbid goes before it.
            or (Exclusion.KEEPS_CONTENT if endpoint.index in keeping else None)
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
            static.details | keeping | untranslated,
        )

    def is_unusual(
        self,
        dialect: Dialect,
        text_bytes: int,
        max_tokens: int | None,
        health: Health,
        sizes: TokenSizes,
        at_s: float,
    ) -> bool:
        """Return whether more decides than the kind of call: how long it is, or how all do.

        What it keeps, and whose thoughts it carries, is for who asks to look at.
        """
        if (
            health.troubled
            or self._any_in_flight
            or (self._translated and dialect in self._translated)
            or (self._any_output_limit and max_tokens)
            or (self._kept_up and self._under_maintenance(at_s))
        ):
            return True
        if self._least_context is None:
            return False
        return text_bytes / sizes.least + (max_tokens or 0) > self._least_context

    def lapsed(self, at_s: float) -> tuple[int, ...]:
        """Return the arms whose agreement has ended: they may have another kind of data since."""
        if not self.agreed:
            return ()  # most often
        return tuple(e.index for e in self.agreed if e.terms.has_lapsed(at_s))

    def _untranslated(self, demand: Demand, static: Eligibility) -> dict[int, str]:
        """Return by arm what of a call cannot be said to whom it might be sent.

        Where the caller names it, that is also who lacks a capability.
        """
        translations = demand.translations
        have_makers = translations.have_makers
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

    def _keeping(self, demand: Demand, static: Eligibility, at_s: float) -> dict[int, str]:
        """Return by arm what a call has kept or passed on there, outside the zone `local`."""
        out = {}
        for endpoint, known in zip(self._catalog.endpoints, static.reasons, strict=True):
            if known in (None, Exclusion.CAPABILITY):
                names = kept_at(demand.translations, endpoint, at_s)
                if names:
                    out[endpoint.index] = names
        return out

    def _under_maintenance(self, at_s: float) -> frozenset[int]:
        """Return the arms that are under maintenance; windows begin and end with a minute."""
        if not self._kept_up:
            return self._shut  # most often
        minute = int(at_s // 60)
        if minute != self._minute:
            shut = (e for e in self._kept_up if any(w.holds(at_s) for w in e.windows))
            self._shut, self._minute = frozenset(e.index for e in shut), minute
        return self._shut

    def _static(self, demand: Demand, at_s: float) -> Eligibility:
        key = (
            self.lapsed(at_s),
            demand.dialect,
            demand.needs & self.lacking,  # what nobody lacks tells no two kinds apart
            demand.rules,
            demand.has_credential,
        )
        found = self._known.get(key)
        if found is None:
            reasons = tuple(_structural(e, demand, at_s) for e in self._catalog.endpoints)
            pairs = zip(self._catalog.endpoints, reasons, strict=True)
            named = {e.index: text for e, r in pairs if (text := _details(e, r, demand))}
            mask = np.array([r is None for r in reasons])
            found = Eligibility(mask, reasons, details=named)
            if len(self._known) >= MAX_KINDS:
                self._known.clear()
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


def kept_at(translations: Translations, endpoint: Endpoint, at_s: float) -> str:
    """Return what a call has an endpoint keep or pass on; in the zone `local` that is no matter."""
    if endpoint.terms.zone_at(at_s) == LOCAL:
        return ""
    return ", ".join(one.name for one in translations.keeping(endpoint))


def why_forbidden_now(
    policy: MergedPolicy, translations: Translations, endpoint: Endpoint, at_s: float
) -> str | None:
    """Return why an endpoint may not have a call any more that it might when that was decided.

    Of all that rules ask of an endpoint only what rests on an agreement ends by itself. None: it
    may have it.
    """
    if endpoint.terms.agreed_until is None:
        return None  # most often
    forbidden = why_forbidden(policy.rules, endpoint.place, at_s)
    if forbidden is not None:
        return forbidden.value
    kept = kept_at(translations, endpoint, at_s) if policy.keeps_nothing else ""
    return f"{Exclusion.KEEPS_CONTENT.value}: {kept}" if kept else None


def _why_unsaid(endpoint: Endpoint, demand: Demand) -> Exclusion:
    """Return why a call cannot be said to an endpoint: in its dialect, or at all."""
    is_spoken = demand.dialect in endpoint.dialects
    return Exclusion.THINKING if is_spoken else Exclusion.TRANSLATION


def _structural(endpoint: Endpoint, demand: Demand, at_s: float) -> Exclusion | None:
    if not endpoint.takes(demand.dialect):
        return Exclusion.DIALECT
    forbidden = why_forbidden(demand.rules, endpoint.place, at_s)
    if forbidden is not None:
        return forbidden
    if endpoint.client_auth and not demand.has_credential:
        return Exclusion.CLIENT_KEY
    return Exclusion.CAPABILITY if _missing(endpoint, demand) else None


def _missing(endpoint: Endpoint, demand: Demand) -> int:
    """Return what a call needs and an endpoint cannot do, as bits of `Needs`."""
    needs = demand.needs
    if demand.dialect not in endpoint.dialects and WISH in endpoint.drop:
        needs &= ~Needs.REASONING  # a translation may leave that wish out here
    return needs & ~endpoint.capabilities


def _details(endpoint: Endpoint, reason: Exclusion | None, demand: Demand) -> str:
    """Return what of a reason is to be named: which capabilities."""
    if reason is Exclusion.CAPABILITY:
        return shown_names(_missing(endpoint, demand))
    if reason is Exclusion.REQUIRED:
        return shown_names(demand.rules.require & ~endpoint.place.capabilities)
    if reason is Exclusion.FORBIDDEN:
        return shown_names(demand.rules.forbid & endpoint.place.capabilities)
    if reason is Exclusion.SMALL_CONTEXT:
        return f"{endpoint.place.context_tokens} of {demand.rules.context_tokens} tokens"
    return ""


def shown_names(bits: int) -> str:
    """Return the names of capabilities, given as bits of `Needs`, as they are shown."""
    return ", ".join(names_of(bits))
