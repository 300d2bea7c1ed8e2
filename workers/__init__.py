"""What runs beside the router.

- `folding`: from the stream to the rows, each event once
- `archive`: what was folded, kept
- `jobs`: what runs now and then
- `observer`: labels, read off finished calls
- `spans`: calls, told to OpenTelemetry
- `replay`: recorded outcomes through the loop
- `__main__`: the process that folds, or runs the jobs
"""
