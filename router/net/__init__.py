"""Sockets, both sides: bytes and deadlines; no model and no policy.

- `deadline`: limits in time that cost little
- `connection`: one connection to a provider, as HTTP/1.1 has it
- `pool`: connections to providers, kept and opened
- `inbound`: uvicorn's protocol, with the limits that it lacks
- `asgi`: bodies in, answers out
"""
