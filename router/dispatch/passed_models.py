"""Who answers what is passed on, as the answers say: kept by name, so that the ledger can tell."""

from __future__ import annotations

from router.beliefs.names import Names
from router.beliefs.served import HIDDEN_KEY, NOTHING_SEEN, REST, Seen, shown_name
from router.config.masking import masked
from router.endpoints.key_pieces import holds_piece
from router.endpoints.providers import Provider
from telemetry.digests import digest8

MAX_MODELS = 1000
"""Names of models of which note is taken; whatever comes beyond them is counted together."""


class PassedModels:
    """The models that answered; one for the process."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._known: dict[str, Seen] = {}

    def seen(self, provider: Provider, model: str | None) -> Seen:
        """Return what an answer says of who made it; a name is told to the store once."""
        if not model:
            return NOTHING_SEEN
        is_key = masked(model) != model or holds_piece(model, provider.auth_header)
        name = HIDDEN_KEY if is_key else shown_name(model)
        if name not in self._known and len(self._known) >= MAX_MODELS:
            name = REST
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = Seen(model=digest8(name))
            self._names.add(found.model, name)
        return found
