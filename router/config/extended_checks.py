"""What strategies extend that there is not, or that they contradict."""

from __future__ import annotations

from collections.abc import Iterator

from router.config.entries import NO_INCUMBENT, File
from router.config.extending import extended_by, lineage_of
from router.config.masking import Place
from router.config.named import check_name
from router.config.presets import STARTS
from router.config.strategies import Exchangeable, StrategyEntry
from router.config.wishes import StrategyLimitsEntry

NOBODY_TO_KEEP = (
    "exchange: {exchange} keeps calls with the incumbent, and incumbent: none has none; name an "
    "endpoint, or leave it out for the first that is listed"
)


def check_extended(entries: File) -> Iterator[tuple[Place, str, str]]:
    """Yield names that nothing has, circles, and what cannot hold beside it: place, value, hint."""
    known = {*STARTS, *entries.strategies, *entries.aliases}
    for name, entry in entries.strategies.items():
        where: Place = ("strategies", name)
        at: Place = (*where, "extends")
        yield from check_name(at, entry.extends, known, "strategy")
        circle = _circle(name, entries)
        if circle:
            hint = f"{' extends '.join(circle)}: nothing to start from; leave one of them out"
            yield at, entry.extends or "", hint
            continue
        lineage = lineage_of(name, entries.strategies)
        effective = lineage.entry
        is_held = effective.exchange is not Exchangeable.ANY
        if is_held and effective.incumbent == NO_INCUMBENT:
            hint = NOBODY_TO_KEEP.format(exchange=effective.exchange)
            yield (*where, "incumbent"), NO_INCUMBENT, hint
        yield from _check_limits(where, entry, lineage.entries[1:])


def _circle(name: str, entries: File) -> list[str]:
    """Return the names by which a strategy leads back to itself; none where it does not."""
    path = [name]
    while (following := extended_by(path[-1], entries.strategies)) is not None:
        path.append(following)
        if following == name:
            return path
        if following in path[:-1]:
            break  # others' circle, told where they stand
    return []


def _check_limits(
    where: Place, own: StrategyEntry, others: tuple[StrategyEntry, ...]
) -> Iterator[tuple[Place, str, str]]:
    """Yield soft limits beside an inherited hard one: of one kind one limit holds."""
    for kind in StrategyLimitsEntry.model_fields:
        said = getattr(own.limits, kind)
        held = [limit for one in others if (limit := getattr(one.limits, kind)) is not None]
        if said is not None and not said.hard and any(limit.hard for limit in held):
            hint = "what it extends has a hard one; write hard: true, or leave it out"
            yield (*where, "limits", kind, "hard"), "false", hint
