"""What can be called, and how it is doing.

- `entries`: models, providers and endpoints as they are written
- `catalog`: the same, compiled
- `health`: breakers, and what is under way
- `retries`: how many attempts beyond the first the process may make
"""
