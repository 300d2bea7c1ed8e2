"""The books: the one place where tokens and outcomes are made, whoever served the call."""

from __future__ import annotations

from router.beliefs.served import ServedModels
from router.config.compiled import App, Role
from router.decision.context import CallContext
from router.decision.decide import Decision
from router.decision.kinds import DecisionKind, kind_of
from router.decision.seal import Seal
from router.decision.units import user_hash
from router.dispatch.decision_flags import RATED, flags_of
from router.dispatch.ending import Ending
from router.dispatch.prompts import SystemPrompts, version_digest
from router.dispatch.recent import RecentNames
from router.dispatch.records import (
    FINAL,
    NAMES_EPISODE,
    OTHER_MODEL,
    PROMISED,
    BookedUnder,
    names_of,
    record_of,
)
from router.dispatch.token_kinds import token_kind
from router.endpoints.catalog import Endpoint
from router.policy.callers import Caller
from telemetry.events import NO_DIGEST, Result
from telemetry.metrics import Metrics
from telemetry.secret import NOBODY, StoreSecret
from telemetry.tokens import Token, role_mark
from telemetry.writer import Writer

TOKEN_FLAGS = 0xFFFF
"""What a token has room for; the others are of outcomes alone."""
RESULT_NAMES = tuple(result.name.lower() for result in Result)
"""By the number of the result."""


class Booking:
    """Writes outcomes of this process's own calls, and counts them."""

    def __init__(
        self,
        writer: Writer,
        seal: Seal,
        secret: StoreSecret,
        metrics: Metrics,
        recent: RecentNames,
        served: ServedModels,
        *,
        n_shards: int,
    ) -> None:
        self.seal = seal
        self._served = served
        self._secret = secret
        self._recent = recent
        self.metrics = metrics
        self._writer = writer
        self._n_shards = n_shards
        self._system_prompts = SystemPrompts()

    def token(
        self, decision: Decision, executed: Endpoint | None, kind: DecisionKind | None = None
    ) -> bytes:
        """Return the packed token of a decision that an endpoint served.

        Args:
            executed: None where nobody knows yet who will serve it.
            kind: of the decision, where that is known.
        """
        kind = kind or kind_of(decision)
        flags = kind.derive(flags_of, decision)
        context, nonce = decision.context, decision.nonce
        app, unit = context.caller.app, context.unit
        user = unit.user if self._secret.is_known else b""
        # All of a rater's decisions are folded by one process, which so knows how many count.
        place = nonce[0]
        if flags & RATED:
            place = int.from_bytes(user, "little") or app.digest
        return token_kind(kind, decision, executed).pack(
            place % self._n_shards,
            self.seal.key_id,
            nonce,
            decision.decided_at_ms,
            unit.session(nonce),
            user,
            decision.plan.propensity,
            flags & TOKEN_FLAGS,
            mark_of(context.role),
        )

    def now_ms(self) -> int:
        """Return the time of the store's clock, in epoch milliseconds."""
        return self._writer.clock.now_ms()

    def foreign_token(
        self,
        nonce: bytes,
        *,
        endpoint: int,
        at_ms: int,
        task: str,
        caller: Caller,
        user: str | None,
        role: Role | None,
    ) -> bytes:
        """Return the packed token of a call that is passed on to where it was addressed.

        Args:
            user: whom the call names; whom its key names goes before.
        """
        return undrawn_token(
            nonce,
            key_id=self.seal.key_id,
            n_shards=self._n_shards,
            at_ms=at_ms,
            endpoint=endpoint,
            task=task,
            app=caller.app,
            role=role,
            user=user_digest(self._secret, caller.app, caller.user(user)),
        )

    def write(
        self,
        token: bytes,
        attempt: Ending,
        *,
        app: str,
        flags: int,
        reference: str | None,
        under: BookedUnder,
    ) -> None:
        """Write how an attempt ended.

        Args:
            reference: the caller's own, where this was the attempt that ended the call.
        """
        if not flags & FINAL:
            self._writer.put(record_of(token, attempt, flags, NO_DIGEST, NO_DIGEST, under))
            return
        recent, episode = self._recent, under.episode
        is_named = (
            episode and attempt.result is Result.OK and recent.episodes.is_first(episode, token)
        )
        if is_named:
            flags |= NAMES_EPISODE
        response, named = names_of(app, attempt.answer_id, reference)
        record = record_of(token, attempt, flags, response, named, under)
        if not self._writer.put(record):
            return
        if is_named or flags & PROMISED:
            recent.note(record)
            return
        if response is not NO_DIGEST:
            recent.note_name(response, token)
        if named is not NO_DIGEST:
            recent.note_name(named, token)

    def write_call(
        self,
        token: bytes,
        attempt: Ending,
        context: CallContext,
        *,
        flags: int,
    ) -> None:
        """Write how an attempt at a call ended that was decided here."""
        role, hints = context.role, context.hints
        under = BookedUnder(
            context.beliefs.configuration.version,
            role.digest if role is not None else 0,
            context.session.episode,
            version_digest(hints),
            self._system_prompts.digest_of(context.request),
            context.task.tag,
            context.spend_tag.digest,
        )
        self.write(
            token,
            attempt,
            app=context.caller.app.name,
            flags=flags,
            reference=hints.reference,
            under=under,
        )

    def note_served(self, endpoint: Endpoint, attempt: Ending, *, by_profile: bool) -> int:
        """Take note of who answered, as the answer says; return what flags say of it.

        A profile's answers are no traffic, in which names are counted.
        """
        if attempt.model is None and attempt.fingerprint is None:
            return 0
        note = self._served.look if by_profile else self._served.note
        attempt.seen = note(endpoint, attempt.model, attempt.fingerprint)
        if not attempt.seen.is_other:
            return 0
        self.metrics.served_other[endpoint.id] += 1
        return OTHER_MODEL

    def count_decision(self, decision: Decision, decide_s: float) -> None:
        """Count a decision in the metrics."""
        metrics, plan = self.metrics, decision.plan
        metrics.decide_s.observe(decide_s)
        if plan.drawn_now:
            metrics.decisions[(decision.context.strategy.name, plan.step or "")] += 1
            for limit in plan.relaxed:
                metrics.relaxed[(decision.context.strategy.name, limit)] += 1
        if decision.diverted is not None:
            metrics.diverted[decision.diverted] += 1
        if decision.ending is not None:
            metrics.draws_ended[decision.ending.value] += 1

    def count(self, endpoint: Endpoint, task: str, attempt: Ending) -> None:
        """Count an attempt in the metrics."""
        metrics, name = self.metrics, endpoint.id
        if attempt.cost_nano is not None and not attempt.is_guessed:
            metrics.cost_usd[name] += attempt.cost_nano / 1e9
        if attempt.ttft_s is not None:
            metrics.observe(metrics.ttft_s, name, attempt.ttft_s)
        metrics.attempts[(name, task, RESULT_NAMES[attempt.result])] += 1
        metrics.observe(metrics.upstream_s, name, attempt.latency_s)


def user_digest(secret: StoreSecret, app: App, user: str | None) -> int:
    """Return an app's user as tokens carry it; NOBODY where none is named, or no secret known."""
    if user is None or not secret.is_known:
        return NOBODY
    return int.from_bytes(user_hash(secret.of_units.now, app.name, user), "little")


def mark_of(role: Role | None) -> int:
    """Return by what tokens tell a role; 0 of none."""
    return role_mark(role.name) if role is not None else 0


def undrawn_token(
    nonce: bytes,
    *,
    key_id: int,
    n_shards: int,
    at_ms: int,
    endpoint: int,
    task: str,
    app: App,
    role: Role | None = None,
    user: int = NOBODY,
) -> bytes:
    """Return the packed token of a call that nobody drew for: passed on, or told of by others.

    Args:
        endpoint: its digest.
        task: one of the configuration's.
        user: as `user_digest` has it.
    """
    return Token(
        key_id=key_id,
        shard=nonce[0] % n_shards,
        flags=0,
        nonce=nonce,
        decided_at_ms=at_ms,
        category=app.categories[task],
        drawn=endpoint,
        executed=endpoint,
        strategy=0,
        app=app.digest,
        release_key=0,
        session=int.from_bytes(nonce[:8], "little"),
        propensity=1.0,
        predicted=0.0,
        predicted_sd=0.0,
        user=user,
        role=mark_of(role),
    ).pack()
