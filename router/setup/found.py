"""What the environment has: providers whose keys are there, and servers of one's own.

Only names of variables are ever told; of an address, its host at most, and never a user in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from router.endpoints.base_url import check_base_url, part_user
from router.setup.known import BY_HAND, KNOWN, SERVERS, KnownModel, KnownProvider, KnownServer

MODELS_A_SERVER = 2
MOST_HOSTS = 8
"""That a note lists."""
_CLOUD = re.compile(r"[:-]cloud$")
"""How Ollama calls models that it does not run itself: no call of theirs stays on the machine."""
NO_NAME = re.compile(r"[^A-Za-z0-9._/@+-]+")
ListModels = Callable[[str], Sequence[str] | None]
"""Asks a server, by its base URL, which models it has; None: it does not answer."""


@dataclass(frozen=True, slots=True)
class FoundProvider:
    """One that can be called from here."""

    known: KnownProvider  # its facts hold at its usual address alone
    variable: str  # of its key; "": it wants none
    base_url: str
    is_local: bool = False  # this machine itself

    @property
    def is_usual(self) -> bool:
        """Whether it is where its facts and prices are known of."""
        return bool(self.known.base_url) and self.base_url == self.known.base_url


@dataclass(slots=True)
class FoundProviders:
    """What was found, and what was passed over and why."""

    providers: list[FoundProvider] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Of what nobody can choose, and of variables that were not followed."""
    own_notes: dict[str, list[str]] = field(default_factory=dict)
    """What is to be known of a provider that is chosen, by its name."""

    def notes_of(self, names: Collection[str]) -> list[str]:
        """Return what is to be known of those that are chosen."""
        return [note for name, notes in self.own_notes.items() if name in names for note in notes]


def find_providers(
    environment: Mapping[str, str], list_models: ListModels, own_ports: Collection[int] = ()
) -> FoundProviders:
    """Return the providers whose keys are set, in the order of `KNOWN`, then own servers.

    Args:
        own_ports: of sidecars on this machine: what an SDK's variable names may be ourselves.
    """
    found = FoundProviders()
    for known in KNOWN:
        if (variable := _key_of(known, environment, found.notes)) is None:
            continue
        own: list[str] = []
        one = _addressed(known, variable, environment, own_ports, own)
        taken = [each.known.name for each in found.providers]
        if one is None:
            found.notes += own
        elif one.known.name not in taken:
            found.providers.append(one)
            found.own_notes[one.known.name] = own
    found.notes += [f"{name}: {why}" for name, why in BY_HAND.items() if environment.get(name)]
    for server in SERVERS:
        if said := environment.get(server.variable, "").strip():
            found.providers += _own_server(server, said, list_models, found.notes)
    return found


def _key_of(known: KnownProvider, environment: Mapping[str, str], notes: list[str]) -> str | None:
    """Return the variable that has the key; None where none has one, and why if one is set."""
    problems = []
    for name in known.keys:
        key = environment.get(name)
        if key is None:
            continue
        if not key.strip():
            problems.append(f"{name} is set but empty: {known.name} is left out")
        elif not (key.strip().isascii() and key.strip().isprintable()):
            problems.append(
                f"{name} holds characters that no header may carry: {known.name} is left out"
            )
        else:
            return name
    notes += problems
    return None


def _addressed(
    known: KnownProvider,
    variable: str,
    environment: Mapping[str, str],
    own_ports: Collection[int],
    notes: list[str],
) -> FoundProvider | None:
    """Return a provider where its SDK's own variable says that it is, else where it usually is."""
    usual = FoundProvider(known, variable, known.base_url)
    name, added = known.address
    said = environment.get(name, "").strip().rstrip("/") if name else ""
    if not said:
        return usual
    url = said + added
    if url == known.base_url:
        return usual
    if problem := _problem_of(url):
        notes.append(f"{name} {problem}: {known.name} is left out")
        return None
    if _is_own_sidecar(url, own_ports):
        notes.append(f"{name} is the sidecar's own address: {known.name}'s usual one is taken")
        return usual
    host = urlsplit(url).hostname
    at = next((other for other in KNOWN if other.host == host), None)
    if at is not None and at is not known:
        notes.append(f"{name} leads to {at.name}, which is called with {variable}")
        return FoundProvider(at, variable, at.base_url)
    notes.append(
        f"{name} leads {known.name} to {host}: models and prices are taken to be the published "
        "ones, without those of long prompts; write your own where they differ"
    )
    return FoundProvider(known, variable, url)


def _problem_of(url: str) -> str | None:
    """Return why no configuration should hold an address; its words never show a password."""
    try:
        check_base_url(url)
    except ValueError as error:
        return f"is no address that calls can be sent to ({error})"
    if part_user(url)[1] is not None:
        return "holds a user or a password"
    return None


def _is_own_sidecar(url: str, own_ports: Collection[int]) -> bool:
    parts = urlsplit(url)
    return parts.port in own_ports and is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def plain_notes(base_urls: Iterable[str]) -> list[str]:
    """Return a note of the addresses to which calls would go unencrypted over a network."""
    parts = [urlsplit(url) for url in base_urls]
    hosts = [p.hostname or "" for p in parts if p.scheme == "http"]
    named = [host for host in dict.fromkeys(hosts) if not is_loopback(host)]
    if not named:
        return []
    listed = ", ".join(named[:MOST_HOSTS]) + (" …" if len(named) > MOST_HOSTS else "")
    return [
        f"prompts and keys go unencrypted to {listed} (http): write https in base_url, unless the "
        "way there is safe"
    ]


def _own_server(
    server: KnownServer, said: str, list_models: ListModels, notes: list[str]
) -> Iterator[FoundProvider]:
    """Yield a server of one's own with the models that it names; nothing is guessed of it."""
    url = server_url(server, said)
    if problem := _problem_of(url):
        notes.append(f"{server.variable} {problem}: {server.name} is left out")
        return
    listed = list_models(url)
    if passed_on := [each for each in listed or () if _CLOUD.search(each)]:
        shown = "".join(c for c in passed_on[0][:128] if c.isprintable())
        notes.append(f"{server.name} passes {shown} on to its maker's cloud: it is left out")
        listed = [each for each in listed or () if each not in passed_on]
    if not listed:
        why = "does not answer" if listed is None else "has no models of its own"
        notes.append(f"{server.name}, which {server.variable} names, {why}: it is left out")
        return
    models = tuple(KnownModel(*_named(each)) for each in listed[:MODELS_A_SERVER])
    known = KnownProvider(server.name, (), "", models)
    local = is_loopback(urlsplit(url).hostname or "")
    yield FoundProvider(known, "", url, is_local=local)


def server_url(server: KnownServer, said: str) -> str:
    """Return a server's base URL; `OLLAMA_HOST` may be a host alone, and one to listen at."""
    said = said.rstrip("/")
    if server.port is None or "@" in said:
        return said
    url = said if "://" in said else f"http://{said}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return url
    host = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host  # noqa: S104 - it listens there
    host = f"[{host}]" if ":" in host else host
    usual = 443 if parts.scheme == "https" else server.port
    return f"{parts.scheme}://{host}:{port or usual}/v1"


def _named(upstream: str) -> tuple[str, str]:
    """Return a name that a configuration takes, and the server's own."""
    name = NO_NAME.sub("-", upstream.removesuffix(":latest")).strip("-./@+_")[:128] or "model"
    return name, "" if name == upstream else upstream


def keep_within(
    providers: Sequence[FoundProvider], place: str
) -> tuple[list[FoundProvider], list[str]]:
    """Return those that are known to be in a place, and the names of the others.

    A server on this machine is where the machine is.

    Args:
        place: a region (`eu`), or a law (`law:US`).
    """
    kept, others = [], []
    for one in providers:
        region, law = place_of(one)
        inside = law.upper() == law_of(place) if law_of(place) else region == place
        if one.is_local or inside:
            kept.append(one)
        else:
            others.append(one.known.name)
    return kept, others


def law_of(place: str) -> str:
    """Return the jurisdiction that a place names; "" where it is a region."""
    law, colon, name = place.partition(":")
    return name.strip().upper() if colon and law == "law" else ""


def place_of(one: FoundProvider) -> tuple[str, str]:
    """Return region and jurisdiction as far as they are known: not of another address."""
    return (one.known.region, one.known.jurisdiction) if one.is_usual else ("", "")
