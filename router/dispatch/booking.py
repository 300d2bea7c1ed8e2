"""The books: the one place where tokens and outcomes are made, whoever served the call."""

from __future__ import annotations

from dataclasses import replace

from router.beliefs.served import ServedModels
from router.config.compiled import App, Role
from router.decision.context import CallContext
from router.decision.decide import Decision
from router.decision.seal import Seal
from router.decision.units import user_hash
from router.dispatch.decision_flags import RATED, flags_of
from router.dispatch.ending import Ending
from router.dispatch.prompts import SystemPrompts, version_digest
from router.dispatch.recent import RecentNames
from router.dispatch.token_kinds import TokenKinds
from router.endpoints.catalog import Endpoint
from router.policy.callers import Caller
from telemetry import events
from telemetry.digests import name_digest
from telemetry.events import NO_DIGEST, WAITED, FeedbackKind, Flag, Result
from telemetry.metrics import Metrics
from telemetry.secret import NOBODY, StoreSecret
from telemetry.tokens import Token, executed_of, role_mark
from telemetry.wire.usage import Usage
from telemetry.writer import Writer

# Flags and names as plain values: arithmetic on enum members costs a microsecond an operation.
STREAMED, USAGE_KNOWN, FINAL = int(Flag.STREAMED), int(Flag.USAGE_KNOWN), int(Flag.FINAL)
PRICED, TTFT_KNOWN = int(Flag.PRICED), int(Flag.TTFT_KNOWN)
TTFT_BOUND, PROMISED, READ = int(Flag.TTFT_BOUND), int(Flag.PROMISED), int(Flag.READ)
OTHER_MODEL, ESTIMATED = int(Flag.OTHER_MODEL), int(Flag.ESTIMATED)
REPORTED, UNANSWERED, NO_END = int(Flag.REPORTED), int(Flag.UNANSWERED), int(Flag.NO_END)
TRANSLATED, NAMES_EPISODE = int(Flag.TRANSLATED), int(Flag.NAMES_EPISODE)
NO_ENDS = frozenset((Result.CLIENT_GONE, Result.OVERTAKEN))
"""Ends of attempts with which no call ends: the client left, or has another answer."""
TOKEN_FLAGS = 0xFFFF
"""What a token has room for; the others are of outcomes alone."""
NOTHING_USED = Usage(0, 0, 0, 0)
RESULT_NAMES = {result: result.name.lower() for result in Result}


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
        self, decision: Decision, executed: Endpoint | None, flags: int | None = None
    ) -> bytes:
        """Return the packed token of a decision that an endpoint served.

        Args:
            executed: None where nobody knows yet who will serve it.
            flags: what `flags_of` says of it, where that is known.
        """
        flags = flags_of(decision) if flags is None else flags
        context, nonce = decision.context, decision.nonce
        app, unit = context.caller.app, context.unit
        user = unit.user if self._secret.is_known else b""
        # All of a rater's decisions are folded by one process, which so knows how many count.
        place = nonce[0]
        if flags & RATED:
            place = int.from_bytes(user, "little") or app.digest
        kind = context.beliefs.derive(TokenKinds).of(decision, executed)
        return kind.pack(
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
        configuration: int = 0,
        reference: str | None = None,
        role: Role | None = None,
        episode: int = 0,
        prompt: int = 0,
        system_prompt: int = 0,
        tag: int = 0,
        spend_tag: int = 0,
    ) -> None:
        """Write how an attempt ended.

        Args:
            configuration: digest of the one that the call was made under.
            role: in which the call came.
            reference: the caller's own, where this was the attempt that ended the call.
            episode, prompt, system_prompt, tag, spend_tag: as `events.outcome` has them.
        """
        final = bool(flags & FINAL)
        if final and attempt.result is Result.OK and self._recent.episodes.is_first(episode, token):
            flags |= NAMES_EPISODE
        record = outcome(
            token,
            attempt if final else replace(attempt, answer_id=None),
            app=app,
            flags=flags,
            configuration=configuration,
            reference=reference if final else None,
            role=role,
            episode=episode,
            prompt=prompt,
            system_prompt=system_prompt,
            tag=tag,
            spend_tag=spend_tag,
        )
        if self._writer.put(record) and final:
            self._recent.note(record)

    def write_call(
        self,
        token: bytes,
        attempt: Ending,
        context: CallContext,
        *,
        flags: int,
    ) -> None:
        """Write how an attempt at a call ended that was decided here."""
        self.write(
            token,
            attempt,
            app=context.caller.app.name,
            flags=flags,
            configuration=context.beliefs.configuration.version,
            reference=context.hints.reference,
            role=context.role,
            episode=context.session.episode,
            prompt=version_digest(context.hints),
            system_prompt=self._system_prompts.digest_of(context.request),
            tag=context.task.tag,
            spend_tag=context.spend_tag.digest,
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


def outcome(
    token: bytes,
    ended: Ending,
    *,
    app: str,
    flags: int,
    reference: str | None,
    configuration: int = 0,
    said: tuple[FeedbackKind, float] | None = None,
    event: bytes = NO_DIGEST,
    role: Role | None = None,
    episode: int = 0,
    prompt: int = 0,
    system_prompt: int = 0,
    tag: int = 0,
    spend_tag: int = 0,
) -> bytes:
    """Return the record of an attempt; what is None is not known.

    Args:
        token: packed.
        app: name, in which answer id and reference mean something.
        flags: without those that say what is known.
        configuration, said, event, episode, prompt, system_prompt, tag, spend_tag: as
            `events.outcome` has them.
    """
    usage = ended.usage or ended.estimate or NOTHING_USED
    if ended.usage is not None:
        flags |= USAGE_KNOWN
    elif ended.estimate is not None:
        flags |= ESTIMATED
    flags |= PRICED if ended.cost_nano is not None and not ended.is_guessed else 0
    flags |= REPORTED if ended.reported_nano is not None else 0
    if flags & FINAL and ended.result in NO_ENDS:
        flags |= NO_END
    elif flags & (FINAL | NO_END) == FINAL and ended.result is not Result.OK:
        flags |= UNANSWERED
    ttft_s = ended.ttft_s
    if ttft_s is not None:
        flags |= TTFT_KNOWN
    elif flags & STREAMED and ended.result in WAITED:
        flags, ttft_s = flags | TTFT_BOUND, ended.latency_s
    return events.outcome(
        token,
        result=ended.result,
        attempt=ended.number,
        status=ended.status,
        flags=flags,
        tokens_in=usage.prompt_tokens,
        tokens_out=usage.completion_tokens,
        tokens_cached=usage.cached_tokens,
        tokens_reasoning=usage.reasoning_tokens,
        tokens_cache_write=usage.written_tokens,
        latency_s=ended.latency_s,
        ttft_s=ttft_s or 0.0,
        cost_nano=ended.cost_nano or 0,
        reported_cost_nano=ended.reported_nano or 0,
        price_source=ended.price_source,
        price_day=ended.price_day,
        price=ended.price,
        tier=ended.tier,
        response=name_digest(app, "response", ended.answer_id) if ended.answer_id else NO_DIGEST,
        reference=name_digest(app, "ref", reference) if reference else NO_DIGEST,
        said=said,
        event=event,
        configuration=configuration,
        served_model=ended.seen.model,
        fingerprint=ended.seen.fingerprint,
        role=role.digest if role is not None else 0,
        episode=episode,
        prompt=prompt,
        system_prompt=system_prompt,
        tag=tag,
        spend_tag=spend_tag,
        first_endpoint=ended.first_endpoint or executed_of(token),
        added_s=ended.added_s,
        trace=ended.trace,
    )
