"""Labels, read off finished calls, in a process of its own beside the router.

- `tool_results`: whether a tool failed
- `conversation`: what a request says
- `answers`: what an answer holds
- `schemas`: whether it fits
- `judgement`: what an answer shows by itself
- `attempts`: what the calls of one app show together
- `rewards`: the labels that follow
- `__main__`: the process
"""
