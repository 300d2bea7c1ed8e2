"""What runs beside the router: folding events into posteriors.

In reading order:

- `fold`: records → terms of the cells (pure)
- `labels`: what was said of a decision, and the reward that follows (pure)
- `ingested`: outcomes that others tell of count once
- `lease`: one owner per shard
- `learner`: stream → rows, one commit at a time
- `references`: feedback that names an answer id or a caller's reference
- `__main__`: the process
"""
