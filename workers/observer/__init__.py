"""Labels, read off finished calls, in a process of its own beside the router.

- `conversation`: what a request says
- `answers`: what an answer holds
- `schemas`, `tool_results`: whether it fits, and whether a tool failed
- `judgement`: what an answer shows by itself
- `attempts`: what the calls of one app show together
- `rewards`: the labels that follow
- `__main__`: the process
"""
