"""Sockets, both sides: bytes and deadlines; no model and no policy.

- `deadline`: limits in time that cost little
- `connection`: one connection to a provider, as HTTP/1.1 has it
- `pool`: connections to providers, kept and opened
- `codings`: content codings undone, of requests and of answers
- `bodies`: bodies of requests, held within one budget or passed on in pieces
- `paths`: paths, made one of each kind
- `asgi`: one request of a client, and the way back to it
- `inbound`: uvicorn's protocol, with the limits that it lacks
"""
