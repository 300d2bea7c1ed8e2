"""Recorded outcomes through the loop, beside honest baselines.

- `file`: a table of outcomes, and every policy on it
- `ope`: other policies, judged from logs of ours
- `plot`: regret over time
- `command`: options checked, figures printed
"""
