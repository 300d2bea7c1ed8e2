"""Running a plan: attempts, streams, the books.

- `headers`: which headers travel
- `observer_line`: what the observer is told of finished calls
- `fates`: what a refusal is about
- `attempt`: one call to one endpoint
- `retries`: the same endpoint again, the next one, or the end
- `booking`: the one place where tokens and outcomes are made
- `trouble`: the setting at fault, and the fix
- `stream`: a streamed answer on its way to the client
- `call`: one call of a client, from its plan to the end of its answer
- `passthrough`: what is not ours to decide
"""
