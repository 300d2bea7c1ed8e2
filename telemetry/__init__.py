"""The language that router and workers share; it knows no strategy.

In reading order:

- `events`: the fixed binary record of an outcome or a feedback
- `ingest`: the events that others send
- `schemas`: JSON Schemas of them all, made from the types
- `frames`: how records travel in one stream entry
- `keys`: every name in the store
- `store`, `embedded`: how the store is found, and the private server
- `journal`: where a record is safe before the answer ends
- `writer`: journal → frames → stream
- `scripts`: the few steps that the store must take atomically
- `reader`: rows → the reader's own copy
- `metrics`: counters and their exposition
- `recorded`: tables of recorded outcomes, for the demo and for replay
"""

__version__ = "0.1.0"
