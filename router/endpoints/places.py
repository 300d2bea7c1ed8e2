"""Where a call may go, as rules see it."""

from __future__ import annotations

from msgspec import Struct

from router.endpoints.data_classes import DataClass
from router.endpoints.terms import HostingTerms


class Whereabouts(Struct, frozen=True):
    """Where a call may go: an endpoint, or a provider that takes what is not listed."""

    name: str  # an endpoint's id; of a provider `<name>/`
    most: DataClass  # the most sensitive that it may receive
    usual: DataClass  # after the agreement ended on which that rests
    terms: HostingTerms
    capabilities: int  # bits of Needs
    context_tokens: int | None = None  # of its model; None: not declared

    def class_at(self, at_s: float) -> DataClass:
        """Return the most sensitive class that it may receive at a moment, in epoch seconds."""
        if self.most.level > self.usual.level and self.terms.has_lapsed(at_s):
            return self.usual
        return self.most
