"""What the tokens of one kind of decision share, under one version of the beliefs."""

from __future__ import annotations

from router.beliefs.kept import release_key
from router.config.entries import Learn
from router.decision.decide import Decision
from router.decision.kinds import DecisionKind
from router.endpoints.catalog import Endpoint
from telemetry.tokens import TokenKind


def token_kind(kind: DecisionKind, decision: Decision, executed: Endpoint | None) -> TokenKind:
    """Return what the tokens of a kind of decision share; worked out once for all of them.

    Args:
        executed: who served it; None where nobody knows yet who will.
    """
    known = kind.known
    key = (TokenKind, 0 if executed is None else executed.digest)
    found: TokenKind | None = known.get(key)
    if found is None:
        found = known[key] = _work_out(decision, executed)
    return found


def _work_out(decision: Decision, executed: Endpoint | None) -> TokenKind:
    context = decision.context
    app, name, beliefs = context.caller.app, context.task.name, context.beliefs
    shared = {
        "category": app.categories[name],
        "drawn": decision.plan.drawn.digest,
        "strategy": context.strategy.digest,
        "app": app.digest,
        "release_key": release_key(app.digest, context.release),
    }
    if executed is None:
        return TokenKind.of(executed=0, **shared)
    c, group, learn = context.category, executed.group, app.entry.learn
    # What nobody learns from was not foretold either: a listener's labels judge no prediction,
    # and an app's own, which may be of another mind, raise no alarm for the others. Nor do a
    # profile's: its prompts were chosen.
    by_profile = context.hints.profile
    foretold = learn is not Learn.LISTEN and not by_profile
    watched = learn is Learn.SHARE and not by_profile
    return TokenKind.of(
        executed=executed.digest,
        predicted=float(beliefs.quality_mean[c, group]),
        predicted_sd=float(beliefs.quality_sd[c, group]) if foretold else 0.0,
        spread=float(beliefs.quality_spread[c, group]) if watched else 0.0,
        regime=beliefs.regime(name, executed.index, by_profile=by_profile),
        **shared,
    )
