"""What providers claim of what no endpoint lists: each thing once, so that nobody has to guess."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from router.config.masking import Place
from router.endpoints.entries import PassthroughEntry, ProviderEntry

REST = "true"


def check_claims(providers: Mapping[str, ProviderEntry]) -> Iterator[tuple[Place, str, str]]:
    """Yield what two providers claim, or one without an address: place, value, hint."""
    claimed_by: dict[str, str] = {}
    for name, provider in providers.items():
        where: Place = ("providers", name, "passthrough")
        if not provider.passthrough:
            if provider.passthrough_state is not None:
                hint = "nothing is passed on to this provider; set passthrough, or leave it out"
                yield ("providers", name, "passthrough_state"), "shared", hint
            continue
        if not provider.base_url:
            yield where, "true", "give the provider a base_url"
        for place, claim in _claims(where, provider.passthrough):
            first = claimed_by.setdefault(claim, name)
            if first != name:
                yield place, claim, _hint(claim, first)


def _claims(where: Place, claimed: PassthroughEntry | bool) -> Iterator[tuple[Place, str]]:
    if not isinstance(claimed, PassthroughEntry):
        yield where, REST
        return
    for i, dialect in enumerate(claimed.dialects):
        yield (*where, "dialects", i), dialect.value
    for i, path in enumerate(claimed.paths):
        yield (*where, "paths", i), path


def _hint(claim: str, first: str) -> str:
    if claim == REST:
        return (
            f"only one provider may take what is not listed; {first!r} already does. "
            "Say for which calls this one is: {dialects: […]} or {paths: […]}"
        )
    return f"{first!r} already takes it; leave it to one of them"
