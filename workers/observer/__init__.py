"""Labels, read off finished calls, in a process of its own beside the router.

- `shapes`: what is read of a call, in whatever dialect
- `whole_streams`: events of a stream, all at once
- `chat`, `messages`, `responses`: one dialect each, read into that shape
- `readers`: which of them reads a call
- `tool_results`: whether a tool failed
- `conversation`: what of a request is compared with others
- `schemas`: whether it fits
- `judgement`: what an answer shows by itself
- `attempts`: what the calls of one app show together
- `rewards`: the labels that follow
- `__main__`: the process
"""
