"""What a text looks like, by exemplars: no network, no model, and no clock.

- `starters`: exemplars that come with the sidecar
- `classifier`: exemplars to tasks, and a text to the one it looks like, or to none
"""
