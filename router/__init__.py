"""The sidecar: an OpenAI-compatible proxy that decides, dispatches and writes what happened.

Rooms from the ground up; a file imports its own room and those before it:

- `errors`: everything that can go wrong, and the HTTP status of each
- `net`: sockets, both sides
- `endpoints`: what can be called, and how it is doing
- `dialects`: the wire dialects
- `translation`: between them
- `classify`: what a text looks like, by exemplars
- `config`: the one YAML file
- `policy`: who may, for what, under which rules
- `beliefs`: what is known now
- `budgets`: what calls may spend
- `decision`: from a call to a plan
- `explain`: why, later
- `dispatch`: running a plan
- `intake`: what others tell us
- `notices`: what changed, told once by one of the routers
- `report`: what people read
- `routes`: path to handler
- `server`: the parts, their start and end
- `serving`: its socket, its signals, its orderly end
- `demo`: the demo and its simulated endpoints
- `setup`: a first configuration, from keys that are at hand or from LiteLLM's
- `profiling`: a user's own prompts at every endpoint, before there is traffic
- `commands`: one verb a file
- `cli_options`: options that several verbs take
- `cli_first_day`: signatures of the verbs that come before there is traffic
- `cli_report`: that of the report
- `cli_recorded`: those of the verbs that play recorded outcomes
- `cli_trials`: that of the verb that compares by chance
- `cli`: all verbs, and the signatures of the others
"""
