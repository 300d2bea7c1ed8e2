"""What runs now and then, through rq.

- `calibration`: predictions beside labels
- `availability`: how often endpoints answered
- `ways`: which way calls came by their endpoint
- `episode_records`: what records tell of episodes
- `episodes`: what episodes came to
- `suggestions`: which tasks prompts of `general` look like
- `spenders`: who spent most
- `recent`: which records of the last days a job reads
- `jobs`: the only functions that a job may name
- `schedule`: when they run
"""
