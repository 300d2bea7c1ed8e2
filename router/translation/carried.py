"""Thoughts that a call carries, and the call without those that an endpoint cannot have made.

What stays where it was made travels as the bytes that came, and so does what no index knows: it
would go there directly. Nothing is read where a call carries none.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from router.dialects.request import CallRequest
from router.endpoints.catalog import Endpoint
from router.endpoints.kinship import can_check, made_alike

NOBODY: Mapping[str, Endpoint] = MappingProxyType({})
"""Where a call carries no thoughts, or of nobody that is known."""
BOUND = "it would have to be sent what another endpoint thought, and cannot check"
NO_MARKS = frozenset[str]()


class CarriedThoughts:
    """The thoughts of one call."""

    __slots__ = ("_by_maker", "_dialect", "_foreign", "_request", "_without")

    def __init__(self, request: CallRequest, makers: Mapping[str, Endpoint]) -> None:
        """Begin.

        Args:
            makers: by mark: who made it, of those whose maker is known.
        """
        self._dialect = request.dialect
        self._request: CallRequest | None = request
        self._by_maker: dict[Endpoint, set[str]] = {}
        for mark, maker in makers.items():
            self._by_maker.setdefault(maker, set()).add(mark)
        self._foreign: dict[Endpoint, frozenset[str]] = {}
        self._without: dict[frozenset[str], CallRequest] = {}

    @property
    def have_makers(self) -> bool:
        """Whether it is known of some who made them."""
        return bool(self._by_maker)

    def foreign(self, endpoint: Endpoint) -> frozenset[str]:
        """Return the marks of those that an endpoint cannot check."""
        if not self._by_maker:
            return NO_MARKS  # most often
        found = self._foreign.get(endpoint)
        if found is None:
            others = [m for m in self._by_maker if not can_check(endpoint, m, self._dialect)]
            marks: set[str] = set().union(*(self._by_maker[maker] for maker in others))
            found = self._foreign[endpoint] = frozenset(marks)
        return found

    def refusal(self, endpoint: Endpoint) -> str | None:
        """Return why a call cannot move to an endpoint; None: it may, or it has not moved."""
        foreign = self.foreign(endpoint)
        if not foreign or foreign.isdisjoint(self._open().bound_thoughts(endpoint)):
            return None
        return BOUND

    def outgoing(self, endpoint: Endpoint) -> CallRequest:
        """Return the call as an endpoint gets it that speaks its dialect."""
        return self._less(self.foreign(endpoint))

    def unsure(self, endpoint: Endpoint) -> frozenset[str]:
        """Return the marks of those that go out and that an endpoint may not have made."""
        if not self._open().thoughts:
            return NO_MARKS  # most often
        return self._not_own(endpoint) - self.foreign(endpoint)

    def bare(self, endpoint: Endpoint) -> CallRequest:
        """Return the call with those thoughts alone that an endpoint is known to have made."""
        return self._less(self._not_own(endpoint))

    def _not_own(self, endpoint: Endpoint) -> frozenset[str]:
        if not self._open().thoughts:
            return frozenset()  # most often
        own = [m for m in self._by_maker if made_alike(endpoint, m, self._dialect)]
        marks = frozenset(self._open().thoughts)
        return marks.difference(*(self._by_maker[maker] for maker in own))

    def let_go(self) -> None:
        """Forget the call."""
        self._request = None
        self._without.clear()

    def _less(self, marks: frozenset[str]) -> CallRequest:
        request = self._open()
        if not marks:
            return request
        found = self._without.get(marks)
        if found is None:
            found = self._without[marks] = request.without_thoughts(marks)
        return found

    def _open(self) -> CallRequest:
        assert self._request is not None  # until it was let go, no attempt is begun
        return self._request
