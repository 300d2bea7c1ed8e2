"""What the tokens of one kind of decision share, under one version of the beliefs."""

from __future__ import annotations

from router.beliefs.beliefs import Beliefs
from router.beliefs.kept import release_key
from router.config.entries import Learn
from router.decision.decide import Decision
from router.endpoints.catalog import Endpoint
from telemetry.tokens import TokenKind

MAX_KINDS = 8192
"""Kinds remembered; what a call may ask for is the caller's to choose, so there is a bound."""


class TokenKinds:
    """The kinds of decisions that were made under these beliefs."""

    def __init__(self, beliefs: Beliefs) -> None:
        self._beliefs = beliefs
        self._known: dict[tuple[object, ...], TokenKind] = {}

    def of(self, decision: Decision, executed: Endpoint | None) -> TokenKind:
        """Return the kind of a decision of these beliefs.

        Args:
            executed: who served it; None where nobody knows yet who will.
        """
        context, drawn = decision.context, decision.plan.drawn
        key = (
            *(context.caller.app.digest, context.task.name, context.category, context.release),
            *(context.strategy.digest, drawn.digest, executed.digest if executed else 0),
            context.hints.profile,
        )
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MAX_KINDS:
                self._known.clear()
            found = self._known[key] = self._work_out(decision, executed)
        return found

    def _work_out(self, decision: Decision, executed: Endpoint | None) -> TokenKind:
        context, beliefs = decision.context, self._beliefs
        app, name = context.caller.app, context.task.name
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
