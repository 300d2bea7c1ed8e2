"""The terms of an endpoint: where it is, what becomes of data there, how it is paid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from router.endpoints.entry import Day, Entry, Name
from router.endpoints.maintenance import MaintenanceEntry
from router.endpoints.rates import begins

WARN_DAYS = 30
"""Before an agreement ends: time enough to have another one signed."""
LOCAL, VENDOR = "local", "vendor"
"""The zones that everybody has; any other name is the user's own."""


class Billing(StrEnum):
    """How calls are paid."""

    TOKENS = "tokens"
    SUBSCRIPTION = "subscription"  # a call costs nothing more while something is left of it


class AgreementEntry(Entry):
    """What was agreed on with the provider, on which the zone rests."""

    until: Day
    """The last day on which it holds."""


class TermsEntry(Entry):
    """The terms of a provider, or of an endpoint, whose own word goes before."""

    region: str | None = None
    """Where it is."""
    jurisdiction: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Whose law holds there."""
    retention_days: Annotated[int, Field(ge=0, le=36_500)] | None = None
    """For how many days it keeps what it is sent. 0 is not at all."""
    zero_retention: bool | None = None
    """With `true` it keeps nothing, as with 0 days."""
    trains_on_data: bool | None = None
    """Whether models are trained on what it is sent."""
    zone: Name | None = None
    """`local`, `vendor`, or a name of your own."""
    agreement: AgreementEntry | None = None
    """What was agreed on, on which zone and class rest."""
    maintenance: list[MaintenanceEntry] | None = None
    """When others should serve."""
    billing: Billing | None = None
    """With `subscription` a call costs nothing more while the account's limits have room."""

    @field_validator("zero_retention")
    @classmethod
    def _keeps_one_word(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        kept = info.data.get("retention_days")
        if kept is not None and value is not None and (kept == 0) is not value:
            raise ValueError("retention_days says the opposite; leave one of them out")
        return value

    @property
    def kept_days(self) -> int | None:
        """For how many days data is kept, in whichever field that is said."""
        return 0 if self.zero_retention else self.retention_days


@dataclass(frozen=True, slots=True)
class HostingTerms:
    """What was said of an endpoint's terms; None: nothing."""

    region: str | None = None
    jurisdiction: str | None = None
    retention_days: int | None = None
    zero_retention: bool | None = None
    trains_on_data: bool | None = None
    zone: str | None = None
    agreed_until: date | None = None
    billing: Billing | None = None
    is_subscribed: bool = field(init=False)  # calls cost nothing more

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_subscribed", self.billing is Billing.SUBSCRIPTION)

    @classmethod
    def of(cls, own: TermsEntry, provider: TermsEntry) -> HostingTerms:
        """Compile what an endpoint and its provider say."""
        keeper = own if (own.kept_days, own.zero_retention) != (None, None) else provider
        kept = keeper.kept_days
        agreement = own.agreement or provider.agreement
        return cls(
            region=own.region or provider.region,
            jurisdiction=own.jurisdiction or provider.jurisdiction,
            retention_days=kept,
            zero_retention=keeper.zero_retention if kept is None else kept == 0,
            trains_on_data=_first(own.trains_on_data, provider.trains_on_data),
            zone=own.zone or provider.zone,
            agreed_until=agreement.until if agreement else None,
            billing=own.billing or provider.billing,
        )

    def has_lapsed(self, at_s: float) -> bool:
        """Return whether there was an agreement that has ended."""
        until = self.agreed_until
        return until is not None and at_s >= begins(until + timedelta(days=1))

    def zone_at(self, at_s: float) -> str | None:
        """Return the zone as it counts at a moment; None: undeclared."""
        return None if self.has_lapsed(at_s) else self.zone

    def said(self, at_s: float) -> dict[str, Any]:
        """Return every value by its name in the configuration, the zone as it counts now."""
        return {
            "region": self.region,
            "jurisdiction": self.jurisdiction,
            "retention_days": self.retention_days,
            "zero_retention": self.zero_retention,
            "trains_on_data": self.trains_on_data,
            "zone": self.zone_at(at_s),
            "agreed_until": self.agreed_until.isoformat() if self.agreed_until else None,
            "billing": self.billing.value if self.billing else None,
        }


def agreement_warnings(agreed: Iterable[tuple[str, date | None]], at_s: float) -> list[str]:
    """Return a line for each agreement that has ended or soon will.

    Args:
        agreed: names, and the last days on which their agreements hold.
    """
    today = datetime.fromtimestamp(at_s, UTC).date()
    by_day: dict[date, list[str]] = {}
    for name, until in agreed:
        if until is not None and (until - today).days <= WARN_DAYS:
            by_day.setdefault(until, []).append(name)
    return [_warning(", ".join(names), day, (day - today).days) for day, names in by_day.items()]


def _warning(names: str, until: date, left: int) -> str:
    if left < 0:
        return (
            f"the agreement of {names} ended on {until}: the zone counts as undeclared, and no "
            "more than internal data goes there; write the new day, or leave the endpoint out"
        )
    span = "today" if left == 0 else f"in {left} day{'s' if left > 1 else ''}"
    return (
        f"the agreement of {names} ends on {until}, {span}: then the zone counts as undeclared, "
        "and no more than internal data goes there"
    )


def _first(*said: bool | None) -> bool | None:
    return next((word for word in said if word is not None), None)
