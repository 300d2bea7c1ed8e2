"""What runs now and then, through rq.

- `calibration`: predictions beside labels
- `availability`: how often endpoints answered
- `jobs`: the only functions that a job may name
- `schedule`: when they run
"""
