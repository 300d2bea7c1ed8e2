"""Who takes what no endpoint lists: unlisted models and all other paths, each provider its own.

By the longest path that one claims, by the dialect of the path, or all that nobody else claims.
Where a path says neither, a client of Anthropic's means who speaks Messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from router.endpoints.data_classes import DataClass
from router.endpoints.entries import Dialect, PassthroughEntry, ProviderEntry
from router.endpoints.keys import HeldKey
from router.endpoints.places import Whereabouts
from router.endpoints.rate_limits import NO_RATES, EndpointRates
from router.endpoints.terms import HostingTerms

DIALECT_PATHS = {
    "chat": Dialect.CHAT,
    "completions": Dialect.COMPLETIONS,
    "messages": Dialect.MESSAGES,
    "responses": Dialect.RESPONSES,
    "conversations": Dialect.RESPONSES,
    "embeddings": Dialect.EMBEDDINGS,
}
"""What comes first below the version, of paths that belong to a dialect."""


@dataclass(frozen=True, slots=True, eq=False)
class Provider:
    """Where unlisted models and paths go."""

    name: str
    base_url: str
    key: HeldKey | None
    client_auth: bool
    place: Whereabouts
    forwarded: frozenset[bytes] = frozenset()
    query: bytes = b""  # of every URL
    digest: int = 0  # what it is known by, where something lies at it
    shares_state: bool = False  # apps may see what others left there under our key
    rates: EndpointRates = NO_RATES  # what it takes a minute

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


@dataclass(frozen=True, slots=True, eq=False)
class Claims:
    """Which provider takes what; each path and dialect is claimed once."""

    by_path: Mapping[str, Provider] = field(default_factory=dict)
    by_dialect: Mapping[Dialect, Provider] = field(default_factory=dict)
    rest: Provider | None = None

    def taker(self, path: str, *, by_anthropics: bool = False) -> Provider | None:
        """Return who takes a path, or an unlisted model that is called there; None: nobody does.

        Args:
            by_anthropics: a client of Anthropic's asks. Some paths are in both makers' APIs.
        """
        dialect = dialect_at(path)
        if dialect is None and by_anthropics and Dialect.MESSAGES in self.by_dialect:
            return self.by_dialect[Dialect.MESSAGES]
        while path:
            if path in self.by_path:
                return self.by_path[path]
            path = path.rpartition("/")[0]
        return self.rest if dialect is None else self.by_dialect.get(dialect, self.rest)

    def __iter__(self) -> Iterator[Provider]:
        """Yield each provider that takes something, once."""
        takers = (*self.by_path.values(), *self.by_dialect.values(), self.rest)
        yield from dict.fromkeys(one for one in takers if one is not None)


def dialect_at(path: str) -> Dialect | None:
    """Return the dialect that a path belongs to; None where it says nothing of any."""
    version, _, rest = path.lstrip("/").partition("/")
    return DIALECT_PATHS.get(rest.partition("/")[0]) if version == "v1" else None


def claims_of(entries: Mapping[str, ProviderEntry], compiled: Mapping[str, Provider]) -> Claims:
    """Return who takes what, by what providers say; what two claim was refused before."""
    by_path: dict[str, Provider] = {}
    by_dialect: dict[Dialect, Provider] = {}
    rest = None
    for name, provider in compiled.items():
        claimed = entries[name].passthrough
        if isinstance(claimed, PassthroughEntry):
            by_path |= dict.fromkeys(claimed.paths, provider)
            by_dialect |= dict.fromkeys(claimed.dialects, provider)
        elif rest is None:
            rest = provider
    return Claims(by_path, by_dialect, rest)
