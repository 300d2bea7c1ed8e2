"""The right to fold one shard, as the store gives it: each step at once, as in `scripts`."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from telemetry.store import Client
from telemetry.topology import spans_slots

_TAKE_LEASE = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local token = redis.call('HINCRBY', KEYS[2], 'fence', 1)
redis.call('HSET', KEYS[2], 'token', token, 'owner', ARGV[3])
return token
"""

_RENEW_LEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""

_RELEASE_LEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
"""


class LeaseScripts:
    """The right to fold one shard, with the token that outdates every earlier holder."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._take = client.register_script(_TAKE_LEASE)
        self._renew = client.register_script(_RENEW_LEASE)
        self._release = client.register_script(_RELEASE_LEASE)

    def take(self, lease: str, meta: str, *, owner: str, ttl_ms: int, tenure: str) -> int:
        """Return the fencing token, or 0 where somebody else holds the lease.

        One's own lease is taken anew, with a new token: so an owner that does not know whether it
        still holds it need not wait.

        Args:
            tenure: a name for this one holding, by which readers see that commits are another's.
        """
        return int(self._take(keys=[lease, meta], args=[owner, ttl_ms, tenure]))

    def renew(self, lease: str, *, owner: str, ttl_ms: int) -> bool:
        """Return whether the lease was still ours and holds on."""
        return bool(self._renew(keys=[lease], args=[owner, ttl_ms]))

    def renew_all(self, leases: Sequence[str], *, owner: str, ttl_ms: int) -> list[bool]:
        """Return the same of several leases, asked for at once."""
        if spans_slots(self._client):  # its pipelines run no scripts
            return [self.renew(lease, owner=owner, ttl_ms=ttl_ms) for lease in leases]
        pipeline = self._client.pipeline(transaction=False)
        for lease in leases:
            pipeline.evalsha(self._renew.sha, 1, lease, owner, ttl_ms)
        out = []
        for lease, reply in zip(leases, pipeline.execute(raise_on_error=False), strict=True):
            if isinstance(reply, redis.exceptions.NoScriptError):  # a server that started since
                out.append(self.renew(lease, owner=owner, ttl_ms=ttl_ms))
            elif isinstance(reply, Exception):
                raise reply
            else:
                out.append(bool(reply))
        return out

    def release(self, lease: str, *, owner: str) -> None:
        """Give the lease back, if it is ours."""
        self._release(keys=[lease], args=[owner])
