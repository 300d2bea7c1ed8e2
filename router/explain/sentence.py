"""Why, in the one sentence with which an explanation opens. Pure, no I/O."""

from __future__ import annotations

from typing import Any

from router.decision.reasons import REASONS_VERSION, Reason, one_in
from router.decision.ways import way_in_the_end


def finish(found: dict[str, Any]) -> dict[str, Any]:
    """Return an explanation with its word, as who answered makes it, and its sentence."""
    answered = found["answered_by"]
    if answered not in (None, found["drawn"]) and found["reason"] != Reason.ONLY:
        found["reason"] = Reason.FAILOVER.value
    if found.get("way") is not None:
        found["way"] = way_in_the_end(found["way"], drawn=found["drawn"], answered_by=answered)
    found["codes_version"] = REASONS_VERSION
    explores = found["reason"] == Reason.EXPLORING
    found["one_in"] = one_in(found["propensity"]) if explores else None
    found["sentence"] = sentence(found)
    return found


def sentence(found: dict[str, Any]) -> str:
    """Return why, in a sentence that begins with a word of `Reason`."""
    drawn, word = found["drawn"], found["reason"]
    match word:
        case Reason.PINNED:
            why = f"{drawn} is what the call, its app or what it goes on from names"
        case Reason.INCUMBENT:
            why = f"{drawn} serves until another is shown to be better"
            if not found["routed"]:
                why = f"{drawn} serves what is not routed"
        case Reason.BEST:
            why = f"{drawn} is what this task stands at"
        case Reason.EXPLORING:
            word = f"{word} (1 in {found['one_in']})"
            why = f"{drawn} was drawn to learn how good it is"
        case Reason.HOLDOUT:
            why = f"{drawn}, the incumbent, keeps a few sessions so that the gain can be measured"
        case Reason.TRIAL:
            why = f"{drawn} serves the side to which chance assigned the session or slot"
        case Reason.ANEW:
            why = f"{drawn} was drawn, as the endpoint before it is gone, or was named by an alarm"
        case Reason.ONLY:
            why = f"{found['answered_by'] or drawn} alone may serve this call"
        case Reason.GAIN:
            why = f"{drawn} serves the session from now on, and {found['ended']['from']} no more"
            why += ": the gain that is to come is above what its prompt cache is worth"
        case Reason.DOMINATED:
            why = f"{drawn} serves from now on, and {found['ended']['from']} no more"
            why += ": labels that came since it was drawn show it to be worse"
        case _:
            why = _failover(found)
    return f"{word}: {why}."


def _failover(found: dict[str, Any]) -> str:
    drawn = found["drawn"]
    return why_another(
        drawn=drawn,
        answered_by=found["answered_by"] or drawn,
        excluded=(found["exclusions"] or {}).get(drawn),
        stands_in_for=found["stands_in_for"],
    )


def why_another(
    *, drawn: str, answered_by: str, excluded: str | None, stands_in_for: str | None
) -> str:
    """Return why another serves than whose turn it was.

    Args:
        excluded: by which code the drawn endpoint may not serve the call, if it may not.
    """
    if answered_by != drawn:
        why = f"may not serve this call ({excluded})" if excluded else "did not answer"
        return f"{drawn} {why}, and {answered_by} did"
    if stands_in_for:
        return f"{drawn} stands in for {stands_in_for}, whose breaker is open"
    return f"{drawn} serves, as nobody whose turn it was may"
