"""What reaches a provider through the sidecar, beside what reaches it directly."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.kits.agent_provider import ProviderCall

OURS = {"stream_options"}
"""Added to a stream of Chat Completions, so that its usage is known."""


def differences(direct: Sequence[ProviderCall], routed: Sequence[ProviderCall]) -> list[str]:
    """Return in what the calls of two equal conversations differ; nothing where they do not.

    Compared are number and order of the calls, their dialects, paths, tools and results, and the
    names and kinds of all that their bodies hold. Texts differ by themselves: ids, paths, times.
    """
    found = []
    if len(direct) != len(routed):
        found.append(f"{len(direct)} calls directly, {len(routed)} routed")
    for number, (one, other) in enumerate(zip(direct, routed, strict=False), 1):
        if one.path != other.path:
            found.append(f"call {number}: {one.path} directly, {other.path} routed")
        mine, theirs = _shape(one.body), _shape(other.body)
        missing = sorted(mine - theirs)
        added = sorted(name for name in theirs - mine if name.split(".")[1] not in OURS)
        found += [f"call {number}: without {name}" for name in missing]
        found += [f"call {number}: added {name}" for name in added]
    return found


def _shape(value: object, at: str = "") -> set[str]:
    """Return the path of everything in a body, with its kind; items of a list are alike."""
    if isinstance(value, dict):
        return {f"{at}." if not value else ""} - {""} | {
            path for name, each in value.items() for path in _shape(each, f"{at}.{name}")
        }
    if isinstance(value, list):
        return {f"{at}[{len(value)}]"} | {p for each in value for p in _shape(each, f"{at}[]")}
    return {f"{at}: {type(value).__name__}"}
