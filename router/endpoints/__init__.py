"""What can be called, and how it is doing.

- `entries`: models, providers and endpoints as they are written
- `catalog`: the same, compiled
- `health`: breakers, and what is under way
"""
