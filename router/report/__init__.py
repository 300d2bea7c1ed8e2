"""What people read.

- `screen`: where tables are printed
- `hosts`: how hosts of a group differ, and which were split off
- `verified`: what live checks found, as reports read it
- `profiles`: what models can do, as rows and as lines
- `catalog`: every value of every endpoint, and what is missing
- `costs`: what the books leave out of costs, and availability
- `served`: under which names endpoints answer, as rows and as lines
- `models`: the list of models
- `roles`: calls by role, as rows and as a table
- `leaves`: which leaves of tasks decide for themselves, as rows and as lines
- `prompts`: which tasks have a new prompt, as lines
- `suggestions`: which tasks prompts of `general` look like, as rows and as lines
- `views`: posteriors as rows, readiness
- `episodes`: what episodes came to, as rows, table and lines
- `gauges`: what is measured of the process as it stands
- `endpoints`: how the endpoints are doing, as rows and as gauges
- `ledger_wish`: what the ledger is asked, as it was written
- `ledger_names`: by which names its digests are known
- `ledger`: what it says, as rows
- `ledger_table`: the same on a terminal, and as CSV
- `price_truth`: whether providers bill the prices that we reckon with
- `ledger_desk`: all of it in a running sidecar
- `unlisted`: calls of what the configuration does not list
- `profiled`: which labels of a table are a profile's, as a line
- `gather`: the report of a store
- `terminal`: the report on a terminal
- `privacy`: whether anything above a class left a zone
"""
