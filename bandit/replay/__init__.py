"""The loop on recorded outcomes; the sidecar uses none of it.

- `scenarios`: streams of calls, and what happens on the way
- `loop`: the sidecar's own steps, one call after the other
- `baselines`: the policies of others
- `run`: a policy on a stream
- `figures`: what it gained
"""
