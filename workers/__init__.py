"""What runs beside the router: folding events into posteriors.

In reading order:

- `fold`: records → terms of the cells (pure)
- `labels`: what was said of a decision, and the reward that follows (pure)
- `batch`: entries → what they change, for the learner and for an audit (pure)
- `lease`: one owner per shard
- `shard`, `learner`: stream → rows, one commit at a time
- `archive_file`, `archive`, `retention`: stream → files, and how long they stay
- `rebuilt`, `audit`: files → state, compared with what is stored
- `restore`: files → an empty store
- `calibration`: predictions beside labels (pure)
- `jobs`, `schedule`: what runs now and then, through rq
- `held`: feedback that names an answer id or a caller's reference
- `__main__`: the process
"""
