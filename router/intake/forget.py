"""Forgetting a user: what is kept by the user's keyed hash goes, and the learner is told.

The store comes first, so that one that does not answer is said before anything is done. To ask
again has the same effect: nothing is counted, and what is gone stays so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from router.budgets.account_names import forget_names
from router.config.compiled import App, Configuration
from router.decision.units import user_hash
from router.errors import RequestRejected
from router.policy.hints import short_name
from telemetry.clock import StoreClock
from telemetry.event_ids import new_event_id
from telemetry.forgetting import drop_conversations, drop_draws, forget_record, note_forgotten
from telemetry.numbers import clipped
from telemetry.rater_rows import rows_of
from telemetry.secret import StoreSecret
from telemetry.store import Address, Client, StoreErrors, connect
from telemetry.trouble import trouble_of
from telemetry.writer import Writer

TIMEOUT_S = 10.0
"""Of one round trip: nobody's call waits for it."""
LEARNER_S = 3.0
LOOK_EVERY_S = 0.1


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to forget."""

    user: str
    app: str | None = None


class Deleted(msgspec.Struct):
    """What was found of a user, and what became of it."""

    apps: int
    draws: int = 0  # of units and stand-ins, in the store
    conversations: int = 0
    in_memory: int = 0  # of all these, in this process; the other routers' go within half a second
    rater_rows: int = 0  # that there were
    rater_rows_left: int = 0  # of these, for a learner that is behind, or does not run
    archive_keep_days: float = 0.0  # for so long archived records keep the keyed hash


class ForgetDesk:
    """Has users forgotten; one for the process."""

    def __init__(
        self,
        address: Address,
        writer: Writer,
        secret: StoreSecret,
        drop: Callable[[Sequence[bytes]], int],
        *,
        n_shards: int,
        connect: Callable[..., Client] = connect,
    ) -> None:
        """Make it.

        Args:
            drop: has this process know nothing any more of these users, by keyed hash; returns of
                how much.
        """
        self._address = address
        self._writer = writer
        self._secret = secret
        self._drop = drop
        self._n_shards = n_shards
        self._connect = connect

    async def take(self, body: bytes, configuration: Configuration) -> Deleted:
        """Forget a user in one app or all; return what was deleted.

        Raises:
            RequestRejected: no such app; no user; the store is away, or takes nothing.
        """
        wish = _parse(body)
        apps = _apps(wish, configuration)
        name = short_name(wish.user)
        found = Deleted(len(apps), archive_keep_days=configuration.archive.keep_days)
        try:
            users = await asyncio.to_thread(self._delete, name, apps, found)
            found.in_memory = self._drop(users)
            await asyncio.to_thread(self._await_learner, users, found)
        except StoreErrors as error:
            raise _away(error) from None
        return found

    def _delete(self, name: str, apps: Sequence[App], found: Deleted) -> list[bytes]:
        """Delete what this process may delete, and tell the learner; return the keyed hashes."""
        client, clock = self._connect(self._address, timeout_s=TIMEOUT_S), StoreClock()
        try:
            clock.ask(client)
            secret, now_ms = self._known_secret(), clock.now_ms()
            users = {user_hash(secret, app.name, name): app for app in apps}
            found.rater_rows = self._n_rater_rows(client, list(users), now_ms)
            note_forgotten(client, users, now_ms=now_ms)
            for user, app in users.items():
                self._tell(user, app, now_ms)
                found.draws += drop_draws(client, user)
                found.conversations += drop_conversations(client, user)
            # Whom the configuration names has the same accounts of budgets in every app.
            forget_names(client, [user.hex() for user in (*users, user_hash(secret, "", name))])
            return list(users)
        finally:
            client.close()

    def _known_secret(self) -> bytes:
        """Return what users are hashed with; a router that never met its store hashed nobody."""
        if not self._secret.is_known:
            message = "its secret of users was not seen yet: try again soon"
            raise RequestRejected("store_away", message)
        return self._secret.of_units.now

    def _tell(self, user: bytes, app: App, now_ms: int) -> None:
        """Tell whoever folds a shard: each has rows of what the user spent."""
        for beside in range(self._n_shards):
            record = forget_record(
                app=app.digest,
                user=user,
                n_shards=self._n_shards,
                at_ms=now_ms,
                event=new_event_id(now_ms),
                beside=beside,
            )
            if not self._writer.put(record):
                message = "the journal is full, so that the learner cannot be told; try again"
                raise RequestRejected("telemetry_full", message)

    def _await_learner(self, users: Sequence[bytes], found: Deleted) -> None:
        """Wait a while until the rows of this rater are gone; note how many are not."""
        found.rater_rows_left = found.rater_rows
        if not found.rater_rows:
            return
        client, ends = self._connect(self._address, timeout_s=TIMEOUT_S), time.monotonic()
        ends += LEARNER_S
        try:
            while found.rater_rows_left and time.monotonic() < ends:
                time.sleep(LOOK_EVERY_S)
                found.rater_rows_left = self._n_rater_rows(client, users, time.time() * 1000)
        finally:
            client.close()

    def _n_rater_rows(self, client: Client, users: Sequence[bytes], now_ms: float) -> int:
        n, by_shard = 0, dict[int, set[bytes]]()
        for user in users:
            shard = int.from_bytes(user, "little") % self._n_shards
            by_shard.setdefault(shard, set()).add(user)
        for shard, own in by_shard.items():
            n += len(rows_of(client, shard, own, now_ms=int(now_ms)))
        return n


def _parse(body: bytes) -> Wish:
    try:
        wish = msgspec.json.decode(body, type=Wish)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        hint = 'send {"user": "…"}, and "app" where one alone is meant'
        raise RequestRejected("invalid_request", f"{clipped(str(error))}; {hint}") from None
    if not wish.user.strip(" \t"):
        raise RequestRejected("invalid_request", "user is empty", param="user")
    return wish


def _apps(wish: Wish, configuration: Configuration) -> list[App]:
    if wish.app is None:
        return list(configuration.apps.values())
    app = configuration.apps.get(wish.app)
    if app is None:
        known = ", ".join(configuration.apps)
        message = f"there is no app {clipped(wish.app)}; there is {clipped(known)}"
        raise RequestRejected("invalid_request", message, param="app")
    return [app]


def _away(error: BaseException) -> RequestRejected:
    trouble = trouble_of(error)
    message = f"the store: {trouble.shown}; not everything was deleted: try again"
    return RequestRejected("store_away", message)
