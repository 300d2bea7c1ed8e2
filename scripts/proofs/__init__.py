"""What is claimed, shown on the running parts.

- `ledger`: what should have been folded, against what was
- `client`: who calls, and keeps books of its own
- `chaos`: who kills, freezes, duplicates and poisons
- `sabotage`: a fault made on purpose, so that the proof has to notice
- `pipeline`: that nothing is lost and nothing doubled
- `overload`: that too many calls do not harm those that are let in
- `__main__`: `scripts/prove NAME`
"""
