"""The account of a budget's period in the store: money is granted before it is spent.

Each holder (a router process, by its producer's id) takes amounts in advance, spends from what it
took without any I/O (`telemetry/allowances.py`), and says with every call what it still counts as
taken: spent, reserved and free together. Amounts are integers: nano-USD, tokens or calls.

**What holds**, with a store that forgets nothing: Σ(spent + reserved + free over all holders) <=
Σ takes = `debited` <= limit, at every moment. It needs no clock, and no lease has to end for it:

- *A reply is lost*: the grant is on record and unknown to its holder; the holder's next word sets
  its take to what it knows, so the grant returns. Until then it counts as taken.
- *A call comes twice or late* (after a later one of the same holder): its number is old, and it is
  refused. A holder has one call under way; a new life of a process has a new name. One that took
  the name of another would find its numbers old: refused, never granted.
- *A holder pauses, or dies*: nobody gets what it took because its time is over. It stays debited
  until `bury`, which wants the holder's whole journal folded; that shows that the process is gone.
  `bury` refuses a holder whose lease runs. Should one be buried that yet lives, its next word
  restores its take; till then as much as it had spent unfolded, and held, may be granted again.

**Where the store forgets** (killed within its last second, failed over to a replica that was
behind, restored, moved to another node) it is as it was a moment ago. The script asks its own
server who it is (`run_id`): no client's knowledge can be stale, whichever sentinel or node of a
cluster it came by. Where the account knows another one it *recovers*: it grants nothing for the
longest lease that it saw, while living holders restate what they took, which the account takes
even beyond the limit. A forgotten grant of a holder that stayed silent all that time has ended by
the holder's own clock, and is neither spent from nor restated. A second restart within that time
begins it anew, and where nobody was heard in its last quarter (the server stood still: what holders
had to say waits) it goes on for half as long. Nothing is granted twice then, save what follows.

**What bounds the rest**:

- What a holder *spent* of a forgotten grant, when it died or was cut off for the whole recovery:
  at most what was granted in the forgotten moment. `bury` puts it on record once it is folded.
- Holders that came first within the forgotten moment, where the account was new, or all others had
  left in order: then there is nobody to wait for, so that a first start need not. Whoever asks
  first of them, or instead of them, may be granted what they hold: at most what was granted in the
  forgotten moment. An account that is gone begins to recover as soon as one restates.
- Two servers that both take writes (a primary cut off from its sentinels): each grants what was
  free when they parted; at most that, once more. `min-replicas-to-write` shortens it.
- A user that may not say INFO: restarts go unnoticed. At most what was granted in the moment.
- Clocks: a lease ends by the holder's clock, counted from before it asked and 1/16 early; the
  recovery by the server's. Rates that differ by more, or a server's clock that is set forward
  meanwhile, let the recovery end before a lease that it waits for: at most the forgotten moment.
- *A limit that is lowered*: each call carries the limit of its caller's configuration. Who has the
  new one gives up what it holds free and asks under it. Who has the old one goes on under the old
  limit until it is told. What is debited beyond a limit is never taken from who spent it.
- *A period that ends* with leases out: reservations settle in the account they were made in, which
  stays for its time to live. A call counts in the period of its reservation, by its router's
  clock. What settles after that time makes an account that nobody asks any more.
- *An account that is gone altogether* (flushed, restored from an archive): who is quiet restates
  nothing. `bury` with what the fold knows of each producer makes it anew.

Amounts stay below 2^53, where the store's arithmetic is exact: 9 million USD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from telemetry import keys
from telemetry.scripts import Argument
from telemetry.store import Client

MAX_AMOUNT = 2**53 - 1
KEEP_PERIODS, KEEP_AT_LEAST_S = 3, 6 * 3600
"""How long an account stays after the last word on it."""
SHORT_MS = 100
"""When to ask again where there was less than was wanted: others settle within moments.
UNVALIDATED."""

_COMMON = """
local function text(n) return string.format('%.0f', n) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function parts_of(held)
  local take, seq = string.match(held or '0 0', '^(%d+) (%d+)$')
  return tonumber(take), tonumber(seq)
end
"""

# KEYS[1] account, KEYS[2] live holders. ARGV: holder, number of the call, its take by its own word,
# what it wants, the least it can use, limit, how long its lease is in ms (0: it leaves), how long
# the account stays in ms, when to ask again after too little in ms, how long the period is in s.
TAKE = (
    _COMMON
    + """
local account, live, holder = KEYS[1], KEYS[2], ARGV[1]
local seq, mine, want = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local least, limit, ttl = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local keep, again = ARGV[8], tonumber(ARGV[9])
local known = redis.call('HMGET', account, 'h:' .. holder, 'debited', 'run', 'until', 'lease',
  'heard')
local take, last = parts_of(known[1])
local debited, ends = tonumber(known[2] or '0'), tonumber(known[4] or '0')
local lease = math.max(tonumber(known[5] or '0'), ttl)
if seq <= last then
  return {-1, limit - debited, 0, 0, 0}
end
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or 'unknown'
ends = math.min(ends, now + lease)
local heard = tonumber(known[6] or '0')
if heard < ends and ends <= now and now - heard > lease / 4 then
  ends = now + math.floor(lease / 2)
end
if known[3] ~= run then
  local is_doubtful
  if known[3] then
    is_doubtful = redis.call('ZCARD', live) > 0
  else
    is_doubtful = mine > 0
  end
  if is_doubtful then
    ends = now + lease
  end
end
if ttl > 0 then
  redis.call('ZADD', live, text(now + ttl), holder)
else
  redis.call('ZREM', live, holder)
end
redis.call('ZREMRANGEBYSCORE', live, '-inf', text(now - 2 * lease))
local n = redis.call('ZCOUNT', live, '(' .. text(now), '+inf')
debited = debited + mine - take
local free, granted = limit - debited, 0
if ends > now then
  again = ends - now
elseif want > 0 and free > 0 then
  granted = math.min(want, math.floor(free / (2 * math.max(n, 1))))
  if granted < least then
    granted = least <= free and least or 0
  end
end
if granted >= want and ends <= now then
  again = 0
end
debited = debited + granted
redis.call('HSET', account, 'h:' .. holder, text(mine + granted) .. ' ' .. text(seq),
  'debited', text(debited), 'run', run, 'until', text(ends), 'lease', text(lease),
  'length', ARGV[10], 'heard', text(now))
redis.call('PEXPIRE', account, keep)
redis.call('PEXPIRE', live, keep)
return {granted, free - granted, n, again, ends > now and 1 or 0}
"""
)

# The same keys. ARGV: holder, what it spent, how long the account stays in ms, how long the period
# is in s.
_BURY = (
    _COMMON
    + """
local ends = redis.call('ZSCORE', KEYS[2], ARGV[1])
if ends and tonumber(ends) > now then
  return {0, 0}
end
local field, spent = 'h:' .. ARGV[1], tonumber(ARGV[2])
local take, seq = parts_of(redis.call('HGET', KEYS[1], field))
local debited = tonumber(redis.call('HGET', KEYS[1], 'debited') or '0') + spent - take
redis.call('HSET', KEYS[1], field, text(spent) .. ' ' .. text(seq), 'debited', text(debited),
  'length', ARGV[4])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {1, take - spent}
"""
)


# The same keys.
_READ = (
    _COMMON
    + """
local n = redis.call('ZCOUNT', KEYS[2], '(' .. text(now), '+inf')
return {text(now), n, redis.call('HGETALL', KEYS[1])}
"""
)


@dataclass(frozen=True, slots=True)
class BudgetPeriod:
    """Whose budget, from when, and for how long."""

    digest: int
    start_s: int  # epoch
    length_s: int

    @property
    def keys(self) -> tuple[str, str]:
        """The two keys of its account; they lie in one slot."""
        of = self.digest, self.start_s
        return keys.budget(*of), keys.budget_live(*of)

    @property
    def keep_ms(self) -> int:
        """How long the account stays in the store when nobody speaks of it any more."""
        return max(KEEP_PERIODS * self.length_s, KEEP_AT_LEAST_S) * 1000


@dataclass(frozen=True, slots=True)
class TakeAsked:
    """One call of a holder: its word on what it took, and what it wants."""

    seq: int  # above that of every earlier call of the holder
    mine: int  # spent, reserved and free
    want: int
    least: int  # what it can use at all; 0: anything
    limit: int
    lease_ms: int  # 0: it leaves
    sent_s: float = 0.0  # holder's clock
    amount: int = 0  # of the call that waits for it, if one does
    held: int = 0  # of that, what the holder had free

    def arguments(self, period: BudgetPeriod, holder: str) -> tuple[Argument, ...]:
        """Return what the script `TAKE` is called with, after the keys.

        Raises:
            ValueError: an amount beyond `MAX_AMOUNT`, or below 0.
        """
        for amount in (self.mine, self.want, self.least, self.limit):
            if not 0 <= amount <= MAX_AMOUNT:
                raise ValueError(f"an amount of {amount}; from 0 to {MAX_AMOUNT}")
        amounts = self.seq, self.mine, self.want, self.least, self.limit, self.lease_ms
        return holder, *amounts, period.keep_ms, SHORT_MS, period.length_s


@dataclass(frozen=True, slots=True)
class TakeAnswer:
    """What the account says to it."""

    granted: int  # -1: the call was an old one
    free: int  # for anybody, after that; negative where more is debited than the limit
    n_live: int
    again_s: float  # how long to wait before asking once more; 0: no need to
    is_recovering: bool  # nothing is granted as yet

    @classmethod
    def parse(cls, reply: Sequence[int]) -> TakeAnswer:
        """Return what the script's reply means."""
        granted, free, n_live, again_ms, recovers = (int(part) for part in reply)
        return cls(granted, free, n_live, again_ms / 1000, bool(recovers))

    @property
    def is_old(self) -> bool:
        """Whether the call came after a later one, or twice; it changed nothing."""
        return self.granted < 0


@dataclass(frozen=True, slots=True)
class AccountRead:
    """An account as it stands."""

    debited: int
    takes: dict[str, int]  # by holder
    n_live: int
    is_recovering: bool


class BudgetAccounts:
    """The accounts of a store, for a client that waits for its replies."""

    def __init__(self, client: Client) -> None:
        self._read = client.register_script(_READ)
        self._take = client.register_script(TAKE)
        self._bury = client.register_script(_BURY)

    def take(self, period: BudgetPeriod, holder: str, asked: TakeAsked) -> TakeAnswer:
        """Say what a holder has, and take what it wants, as far as there is any.

        Raises:
            redis.RedisError, OSError: nobody knows whether it took effect.
        """
        return TakeAnswer.parse(self._take(keys=period.keys, args=asked.arguments(period, holder)))

    def bury(self, period: BudgetPeriod, holder: str, *, spent: int) -> int | None:
        """Set a dead holder's take to what it spent; return what came back, None while it lives.

        Negative where the account had forgotten what it spent, or never knew the holder: so a
        restored store gets its accounts back. Doing it twice changes nothing.

        Args:
            spent: in this period, with the holder's whole journal folded: its process is gone.
        """
        arguments = [holder, spent, period.keep_ms, period.length_s]
        done, back = self._bury(keys=period.keys, args=arguments)
        return int(back) if int(done) else None

    def read(self, period: BudgetPeriod) -> AccountRead:
        """Return how an account stands, all at 0 where there is none."""
        now_ms, n_live, flat = self._read(keys=period.keys)
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        takes = {
            name[2:].decode(): int(value.split()[0])
            for name, value in fields.items()
            if name.startswith(b"h:")
        }
        return AccountRead(
            debited=int(fields.get(b"debited", 0)),
            takes=takes,
            n_live=int(n_live),
            is_recovering=int(fields.get(b"until", 0)) > int(now_ms),
        )


def read_takes(
    client: Client, accounts: Sequence[BudgetPeriod], holders: Sequence[str]
) -> list[list[int | None]]:
    """Return what holders have taken of accounts; None where an account knows nothing of one."""
    if not accounts or not holders:
        return [[] for _ in accounts]
    fields = [f"h:{holder}" for holder in holders]
    pipeline = client.pipeline(transaction=False)
    for account in accounts:
        pipeline.hmget(account.keys[0], fields)
    return [
        [int(value.split()[0]) if value else None for value in values]
        for values in pipeline.execute()
    ]


def read_debited(client: Client, accounts: Sequence[BudgetPeriod]) -> list[int]:
    """Return what is spent or held of accounts by all; 0 where there is none."""
    pipeline = client.pipeline(transaction=False)
    for account in accounts:
        pipeline.hget(account.keys[0], "debited")
    return [int(value or 0) for value in pipeline.execute()] if accounts else []
