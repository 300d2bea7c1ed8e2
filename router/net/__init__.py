"""Sockets, both sides: bytes and deadlines; no model and no policy.

- `deadline`: limits in time that cost little
- `answer`: a provider's answer, poured out as it comes or read at its reader's pace
- `connection`: one connection to a provider, as HTTP/1.1 has it
- `pool`: connections to providers, kept and opened
- `codings`: content codings undone, of requests and of answers
- `bodies`: bodies of requests, held within one budget or passed on in pieces
- `paths`: paths, made one of each kind
- `exchange`: one request of a client, and the way back to it, whoever serves it
- `served`: an exchange on a connection of ours
- `refusals`: what is said to those who are not served
- `inbound`: a client's connection: requests parsed, within limits, one after another
- `address`: the address that is listened on
- `admission`: how many calls are under way, and who is turned away
- `turns`: how much of a turn of the loop goes to calls that begin
- `drain`: the end of what is under way
- `listener`: what serves: sockets, connections, an orderly end
"""
