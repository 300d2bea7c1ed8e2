"""The sidecar: an OpenAI-compatible proxy that decides, dispatches and writes what happened.

Rooms from the ground up; a file imports its own room and those before it:

- `errors`: everything that can go wrong, and the HTTP status of each
- `net`: sockets, both sides
- `endpoints`: what can be called, and how it is doing
- `dialects`: the wire dialects
- `translation`: between them
- `config`: the one YAML file
- `policy`: who may, for what, under which rules
- `beliefs`: what is known now
- `decision`: from a call to a plan
- `explain`: why, later
- `dispatch`: running a plan
- `intake`: what others tell us
- `report`: what people read
- `routes`: path to handler
- `server`: the parts, their start and end
- `demo`: the demo and its simulated endpoints
- `commands`: one verb a file
- `cli`: the verbs' signatures
"""
