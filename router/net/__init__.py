"""Sockets, both sides: bytes and deadlines; no model and no policy.

- `deadline`: limits in time that cost little
- `answer`: a provider's answer, poured out as it comes or read at its reader's pace
- `connection`: one connection to a provider, as HTTP/1.1 has it
- `pool`: connections to providers, kept and opened
- `codings`: content codings undone, of requests and of answers
- `bodies`: bodies of requests, held within one budget or passed on in pieces
- `paths`: paths, made one of each kind
- `asgi`: one request of a client, and the way back to it
- `inbound`: uvicorn's protocol, with the limits that it lacks
- `address`: the address that is listened on
- `admission`: how many calls are under way, and who is turned away
- `turns`: how much of a turn of the loop goes to calls that begin
- `drain`: the end of what is under way
- `listener`: uvicorn's server, with a socket and an end of its own
"""
