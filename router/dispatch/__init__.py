"""Running a plan: attempts, streams, the books.

- `observer_line`: what the observer is told of finished calls
- `attempt`: one call to one endpoint
- `call`: one call of a client, from its plan to the end of its answer
- `passthrough`: what is not ours to decide
"""
