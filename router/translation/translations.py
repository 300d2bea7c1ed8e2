"""What one call is to each endpoint, in its own dialect or another; worked out when asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from router.dialects.body import THINKING
from router.dialects.keeping import Keeping, keeping_in
from router.dialects.request import CallRequest, Outgoing
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect
from router.translation import requests
from router.translation.carried import NO_MARKS, NOBODY, CarriedThoughts
from router.translation.prompt import Manner, Prompt, Untranslatable, Written
from router.translation.translated import TranslatedCall

LONGEST_REASON = 200
"""Characters: it goes into errors, explanations and their log."""

Way = tuple[Dialect, Manner]


class Translations:
    """The translations of one call; each is made once, however many endpoints ask."""

    __slots__ = (
        "_begun_at_s",
        "_dialect",
        "_left_out",
        "_makers",
        "_prompt",
        "_request",
        "_thoughts",
        "_written",
        "have_makers",
    )

    def __init__(
        self,
        request: CallRequest,
        *,
        begun_at_s: float,
        makers: Mapping[str, Endpoint] = NOBODY,
    ) -> None:
        """Begin; nothing is read yet.

        Args:
            begun_at_s: epoch seconds, for answers that must say when they were made.
            makers: by mark: who made the thoughts that it carries, as far as that is known.
        """
        self._makers = makers
        self.have_makers = bool(makers)  # it carries thoughts of which it is known who made them
        self._thoughts: CarriedThoughts | None = None  # nobody asked for them yet
        self._dialect = request.dialect
        self._request: CallRequest | None = request
        self._begun_at_s = begun_at_s
        self._prompt: Prompt | None = None
        self._written: dict[Way, Written | Untranslatable] = {}
        self._left_out: dict[Way, list[str]] = {}

    @property
    def thoughts(self) -> CarriedThoughts:
        """The thoughts that it carries."""
        if self._thoughts is None:
            assert self._request is not None  # asked before an attempt is begun
            self._thoughts = CarriedThoughts(self._request, self._makers)
        return self._thoughts

    def refusal(self, endpoint: Endpoint) -> str | None:
        """Return what of the call cannot be said to an endpoint; None: all can be."""
        if not self._is_needed(endpoint):
            return self.thoughts.refusal(endpoint) if self._makers else None
        found = self._of(endpoint)
        return str(found)[:LONGEST_REASON] if isinstance(found, Untranslatable) else None

    def told_of(self, endpoint: Endpoint) -> str | None:
        """Return from which dialect into which a call to an endpoint is translated, if it is."""
        if not self._is_needed(endpoint):
            return None
        return f"{self._dialect} to {endpoint.spoken_for(self._dialect)}"

    def keeping(self, endpoint: Endpoint) -> Sequence[Keeping]:
        """Return what the call keeps at an endpoint, or has passed on, beside being answered.

        A translation carries nothing of that kind: only what `params` ask for counts.
        """
        assert self._request is not None  # asked before an attempt is begun
        if not self._is_needed(endpoint):
            return self._request.keeping_at(endpoint)
        return keeping_in(endpoint.spoken_for(self._dialect), endpoint.params)

    def left_out(self, endpoint: Endpoint) -> list[str]:
        """Return the names of fields that an endpoint is not told of."""
        if self._is_needed(endpoint):
            return self._left_out.get(self._way(endpoint), [])
        return [THINKING] if self._makers and self.thoughts.foreign(endpoint) else []

    def outgoing(self, endpoint: Endpoint) -> Outgoing:
        """Return the call as an endpoint gets it.

        Raises:
            Untranslatable: it cannot be said; whoever may serve it was chosen otherwise.
        """
        assert self._request is not None  # until it was let go, no attempt is begun
        if not self._is_needed(endpoint):
            return self.thoughts.outgoing(endpoint) if self._makers else self._request
        found = self._of(endpoint)
        if isinstance(found, Untranslatable):
            raise found
        assert self._prompt is not None  # it was read to be written
        return TranslatedCall(
            self._request, self._prompt, found, self._way(endpoint)[0], begun_at_s=self._begun_at_s
        )

    def unsure(self, endpoint: Endpoint) -> frozenset[str]:
        """Return the marks of thoughts that go to an endpoint which may not have made them."""
        if not self._makers and self._request is not None and not self._request.thoughts:
            return NO_MARKS  # most often
        return self.thoughts.unsure(endpoint)

    def let_go(self) -> None:
        """Forget all but what is told of it: an explanation outlives its call's body."""
        if self._makers:
            self.thoughts.let_go()
        self._request = self._prompt = None
        self._written.clear()

    def _is_needed(self, endpoint: Endpoint) -> bool:
        return self._dialect not in endpoint.dialects and self._dialect in endpoint.translated

    def _way(self, endpoint: Endpoint) -> Way:
        return endpoint.spoken_for(self._dialect), manner_of(endpoint)

    def _of(self, endpoint: Endpoint) -> Written | Untranslatable:
        way = self._way(endpoint)
        found = self._written.get(way)
        if found is None:
            found = self._written[way] = self._write(way)
            if isinstance(found, Written):
                self._left_out[way] = sorted(found.left_out)
        return found

    def _write(self, way: Way) -> Written | Untranslatable:
        assert self._request is not None
        try:
            if self._prompt is None:
                self._prompt = requests.read(self._dialect, self._request.body)
            return requests.write(self._prompt, *way)
        except Untranslatable as why:
            return why


def manner_of(endpoint: Endpoint) -> Manner:
    """Return how an endpoint is spoken to."""
    return Manner(
        output_tokens=endpoint.output_limit,
        reasoning=endpoint.reasoning,
        drop=endpoint.drop,
    )
