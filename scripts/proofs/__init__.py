"""What is claimed, shown on the running parts.

- `ledger`: what should have been folded, against what was
- `client`: who calls, and keeps books of its own
- `chaos`: who kills, freezes, duplicates and poisons
- `sabotage`: a fault made on purpose, so that the proof has to notice
- `pipeline`: that nothing is lost and nothing doubled
- `overload`: that too many calls do not harm those that are let in
- `provider`: a provider on a bare socket that says exact bytes at exact times
- `replies`: the bytes of its replies
- `sidecar`: `pointsman serve`, with a store of its own
- `faults`: sixteen ways a provider breaks
- `verdicts`: what was seen of a fault, and the verdict on it
- `attempts`: the sidecar's books of a call
- `fault_player`: plays faults to the real SDK
- `failover`: that a client gets an answer, or a clean error, whatever breaks
- `turns`: what a provider does with one attempt, and a script of it
- `fault_scripts`: random scripts
- `framing`: how the bytes of an answer travel
- `script_replies`: from a turn to the provider's bytes
- `views`: what a client saw, straight and through the sidecar
- `script_caller`: the real SDK as the caller of scripts
- `direct`: that no call is worse for going through
- `stream_client`: a client on a bare socket
- `slow_provider`: a provider of slow streams, and samples to be cut
- `streams`: that cut streams are told, and that leaving clients leave nothing behind
- `__main__`: `scripts/prove NAME`
"""
