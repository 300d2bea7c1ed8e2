"""A user's own prompts at every endpoint, before there is traffic.

- `own_sidecar`: a sidecar in this process, for calls under an app's rules
- `results`: what came of one prompt at one endpoint
- `sentence`: what they advise, in words
- `figures`: all figures of a profile, by name
- `table`: the same for terminals
- `page`: the same as one page of HTML
"""
