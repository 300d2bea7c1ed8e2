"""The sidecar: an OpenAI-compatible proxy that decides, dispatches and writes what happened.

A call runs through these files, in reading order:

- `server`: routes, start, drain                    `asgi`, `protocol`: HTTP in and out
- `completions`: one chat call from body to answer   `dialects/`: what the wire looks like
- `auth`: whose call it is                           `tasks`: what kind of call it is
- `policy`: how it is routed                         `constraints`: who may not serve it
- `planner`: the plan, without any I/O               `beliefs`: posteriors as of now
- `choices`: what release keys stand at            `releases`: the same in the store
- `sessions`: what a session or slot was given       `health`: breakers
- `dispatch`: the attempts                           `upstream`: the one transport seam
- `upstream_protocol`: one connection               `deadline`: time limits
- `decisions`: the sealed id that feedback comes back with
- `feedback`: what others say of answers             `ingest`: calls that others dispatched
- `ingest_file`: rows → events                       `ingest_command`: events → sidecar

Configuration is `configuration` over `catalog`, `policy` and `settings`. Commands are in `cli`.
"""
