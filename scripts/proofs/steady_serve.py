"""`pointsman serve` that waits longer for its store, and is broken on purpose where one asks.

On a busy machine a store may take longer than the five milliseconds that a call waits for it; what
a process does then is its own part of the law, and none of this proof. `python -m`, one process;
its arguments are those of `pointsman`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from enum import StrEnum
from hashlib import blake2b
from typing import Any

from msgspec import structs

PATIENT_S = 5.0
VARIABLE = "PROVE_STEADY_SABOTAGE"
"""Names what is broken."""


class SteadySabotage(StrEnum):
    """What is broken."""

    TASK = "task"  # the rules of tasks look at what messages say
    UNIT = "unit"  # units go by what messages say
    LUCK = "luck"  # the numbers of a draw are made of what messages say
    CLOCK = "clock"  # slots last a second
    ALONE = "alone"  # each process draws by luck of its own, and tells the others nothing


def break_on_purpose(kind: SteadySabotage) -> None:
    """Have this process break a rule from now on."""
    {
        SteadySabotage.TASK: _task_by_words,
        SteadySabotage.UNIT: _unit_by_words,
        SteadySabotage.LUCK: _luck_by_words,
        SteadySabotage.CLOCK: _short_slots,
        SteadySabotage.ALONE: _keep_to_oneself,
    }[kind]()


def _task_by_words() -> None:
    from router.decision import rulings, settled_kinds

    ruled: Any = rulings.ruled

    def by_words(*of: Any, **by: Any) -> Any:
        *before, read = of
        body = read.__self__.body.decode()

        def look(*, read_system: bool) -> Any:
            return structs.replace(read(read_system=read_system), system=body)

        return ruled(*before, look, **by)

    vars(settled_kinds)["ruled"] = by_words
    vars(settled_kinds)["_holds"] = lambda *_: False  # so none is remembered


def _words_of(context: Any) -> bytes:
    return blake2b(context.request.body, digest_size=16).digest()


def _unit_by_words() -> None:
    def changed(context: Any) -> Any:
        if context.unit.key is None:
            return context
        return structs.replace(context, unit=structs.replace(context.unit, key=_words_of(context)))

    _change_contexts(changed)


def _luck_by_words() -> None:
    _change_contexts(lambda context: structs.replace(context, seed=_words_of(context)))


def _change_contexts(change: Callable[[Any], Any]) -> None:
    from router.decision.contexts import Contexts

    settle = Contexts.of

    async def changed(self: Contexts, *of: Any, **by: Any) -> Any:
        context = await settle(self, *of, **by)
        return context if context is None else change(context)

    Contexts.of = changed  # type: ignore[method-assign]


def _short_slots() -> None:
    from router.decision import units

    units.APP_SLOT_S = units.USER_SLOT_S = 1


def _keep_to_oneself() -> None:
    from router.decision.shared_draws import SharedDraws

    async def claim(self: SharedDraws, key: bytes, given: Any, **_: Any) -> Any:
        return given

    SharedDraws.claim = claim  # type: ignore[method-assign]
    own = os.urandom(16)
    _change_contexts(
        lambda context: structs.replace(
            context, seed=blake2b(context.seed, key=own, digest_size=16).digest()
        )
    )


def main() -> None:
    """Be `pointsman`."""
    from router.decision import sessions, shared_draws

    sessions.LOOK_UP_S = shared_draws.LOOK_UP_S = PATIENT_S  # type: ignore[attr-defined]
    if sabotage := os.environ.get(VARIABLE):
        break_on_purpose(SteadySabotage(sabotage))
    from router.cli import app

    app(sys.argv[1:])


if __name__ == "__main__":
    main()
