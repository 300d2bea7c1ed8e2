"""A user's own prompts at every endpoint, before there is traffic.

- `own_sidecar`: a sidecar in this process, for calls under an app's rules
- `results`: what came of one prompt at one endpoint
"""
