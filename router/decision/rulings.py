"""What holds for calls, remembered: what is the same of two calls is worked out for the first.

It follows from the configuration, and goes with it. A key has all that the answer is made of: the
app, what the key says, the hints that rules look at, the model, what the session said, whether
routing is off, and, where a rule looks at it, the structure of the request. A call's own words
enter nowhere.
"""

from __future__ import annotations

from hashlib import blake2b

from msgspec import structs

from router.config.compiled import Configuration
from router.config.rules import NOTHING
from router.decision.ruling import Guess, ReadStructure, Ruling, work_out
from router.decision.said import SessionSaid
from router.dialects.request import PLAIN, Structure
from router.policy.callers import Caller
from router.policy.hints import Hints
from router.policy.tasks import FoundBy

MAX_KINDS = 4096
MAX_STRUCTURES = 256
"""Of one kind of call."""
MAX_RULINGS = 16_384
"""By structure, of all kinds of calls: callers choose both, and one takes up to 1.5 kB."""
MAX_NAMES = 1024
"""Characters that callers make up, in one kind of call: who says more is not remembered."""
_Kind = tuple[object, ...]


def ruled(
    configuration: Configuration,
    caller: Caller,
    hints: Hints,
    model: str,
    session: SessionSaid,
    read: ReadStructure | None,
    *,
    off: bool,
    guess: Guess | None = None,
) -> Ruling:
    """Return what holds for a call; as `ruling.work_out`, which says more.

    Raises:
        RequestRejected: a hint that cannot be followed.
    """
    if read is None or hints.held is not NOTHING:
        return work_out(configuration, caller, hints, model, session, read, off=off, guess=guess)
    known = configuration.derive(Rulings)
    found = known.of(caller, hints, model, session, read, off=off)
    task = found.task
    if guess is None or task.found_by is not FoundBy.GENERAL:
        return found
    if (hints.task or found.asked.target.task) is not None:
        return found
    guessed = guess(task)
    if guessed is task:
        return found
    if (guessed.name, guessed.found_by) == (task.name, task.found_by):
        return structs.replace(found, task=guessed)
    return work_out(configuration, caller, hints, model, session, read, off=off, guess=guess)


class Rulings:
    """What holds under one configuration, by kind of call."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._known: dict[_Kind, Ruling | _ByStructure] = {}
        self._n_put = 0  # rulings by structure

    def of(
        self,
        caller: Caller,
        hints: Hints,
        model: str,
        session: SessionSaid,
        read: ReadStructure,
        *,
        off: bool,
    ) -> Ruling:
        """Return what holds for a call, whatever its prompt looks like.

        Raises:
            RequestRejected: a hint that cannot be followed.
        """
        kind = (
            caller.app.name,
            caller.holder,
            model,
            off,
            hints.task,
            hints.complexity,
            hints.strategy,
            hints.role,
            hints.user if hints.user in self._configuration.users else None,
            hints.data_class,
            hints.explore,
            hints.max_cost_usd,
            hints.max_latency_ms,
            session.task,
            session.level,
        )
        found = self._known.get(kind)
        if isinstance(found, Ruling):
            return found
        if found is None:
            return self._first(kind, caller, hints, model, session, read, off=off)
        structure = read(read_system=self._configuration.reads_system)
        if structure is PLAIN and found.plain is not None:
            return found.plain  # most often
        told = _told_apart(structure)
        known = found.known.get(told)
        if known is None:
            once = _ReadOnce(read, structure)
            known = work_out(self._configuration, caller, hints, model, session, once, off=off)
            known = structs.replace(known, by_structure=True)
            self._put(found, told, structure, known)
        return known

    def _put(self, of: _ByStructure, told: _Kind, structure: Structure, ruling: Ruling) -> None:
        if self._n_put >= MAX_RULINGS:
            self._n_put = 0
            for each in self._known.values():
                if isinstance(each, _ByStructure):
                    each.known.clear()
        self._n_put += 1
        of.put(told, structure, ruling)

    def _first(
        self,
        kind: _Kind,
        caller: Caller,
        hints: Hints,
        model: str,
        session: SessionSaid,
        read: ReadStructure,
        *,
        off: bool,
    ) -> Ruling:
        """Return what holds for the first call of a kind, and remember it.

        Whether a rule looks at the structure is the same for all calls of a kind.
        """
        once = _ReadOnce(read)
        ruling = work_out(self._configuration, caller, hints, model, session, once, off=off)
        if once.structure is not None:
            ruling = structs.replace(ruling, by_structure=True)
        if len(model) + len(hints.task or "") + len(hints.complexity or "") > MAX_NAMES:
            return ruling
        found: Ruling | _ByStructure = ruling
        if once.structure is not None:
            found = _ByStructure()
            self._put(found, _told_apart(once.structure), once.structure, ruling)
        if len(self._known) >= MAX_KINDS:
            self._known.clear()
        self._known[kind] = found
        return ruling


class _ByStructure:
    """What holds for calls of one kind, by their structure."""

    __slots__ = ("known", "plain")

    def __init__(self) -> None:
        self.known: dict[_Kind, Ruling] = {}
        self.plain: Ruling | None = None  # of a call without any of what rules look at

    def put(self, told: _Kind, structure: Structure, ruling: Ruling) -> None:
        """Remember what holds for a structure."""
        if structure is PLAIN:
            self.plain = ruling
        if sum(map(len, structure.tools)) <= MAX_NAMES:
            if len(self.known) >= MAX_STRUCTURES:
                self.known.clear()
            self.known[told] = ruling


class _ReadOnce:
    """Reads the structure of a request when it is asked for, and once."""

    def __init__(self, read: ReadStructure, structure: Structure | None = None) -> None:
        self._read = read
        self.structure = structure

    def __call__(self, *, read_system: bool) -> Structure:
        if self.structure is None:
            self.structure = self._read(read_system=read_system)
        return self.structure


def _told_apart(structure: Structure) -> _Kind:
    """Return what tells two structures apart; of a system prompt that is its digest."""
    told: object = structure.system
    if structure.system:
        said = structure.system.encode(errors="surrogatepass")
        told = blake2b(said, digest_size=16).digest()
    return (structure.tools, structure.groups, structure.has_schema, structure.has_image, told)
