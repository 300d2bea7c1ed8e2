"""What a text looks like, by exemplars: no network, no model, and no clock.

- `words`: a text to what counts of it
- `boilerplate`: what agents and frameworks wrap around a prompt, and that is taken away
- `teaching`: exemplars to weights
- `starters`: exemplars that come with the sidecar
- `classifier`: a text to the task it looks like, or to none
- `repeated`: exemplars that are there twice
- `evaluate`: how well exemplars tell tasks apart, on a third that is held out
- `taught`: exemplars with what was learnt from them
"""
