"""What people read.

- `views`: posteriors as rows, models as a list, readiness
- `gauges`: what is measured of the process as it stands
- `gather`: the report of a store
- `terminal`: the report on a terminal
"""
