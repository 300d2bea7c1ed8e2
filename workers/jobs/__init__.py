"""What runs now and then, through rq.

- `calibration`: predictions beside labels
- `jobs`: the only functions that a job may name
- `schedule`: when they run
"""
