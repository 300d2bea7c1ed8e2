"""What calls, draws and events cost, beside references in the same run.

- `upstream`: a provider that costs next to nothing
- `http`: the sidecar beside nginx
- `draw`: a single draw
- `hosts`: how soon a worse host is split off, and how often an equal one
- `load`: whoever writes and reads events while they are measured
- `references`: the ways of others to take events
- `replay`: a rebuild from records
- `pipeline`: from a call's outcome to the posterior of a router
- `derived_traffic`: made-up calls, with faults at one endpoint or healthy
- `derived`: what is read off them, and what is believed of it
- `yielding`: labels until an incumbent yields, and how seldom it yields by chance
- `learning_cases`: what `learning` plays: tables, streams and rules
- `learning_goals`: what a row of it is, and has to show
- `learning_figures`: what a row tells, from what was played
- `learning_beside`: rows that other work may not pay for
- `learning_rows`: rows on learning itself, and all rows together
- `learning`: how well the one setting learns, as a table
- `memory`: bytes of the store for each thing that it keeps, and of the router for a unit
- `lookup`: old decisions, found in a month of archive
- `truth_setting`, `truth_units`, `truth_records`: simulated worlds, their units and records
- `truth_world`: traffic of such a world, through the code that folds and infers live
- `truth_tally`: what is shown of it, held against the truth
- `truth_falls`: one endpoint falls
- `truth`: whether posteriors tell the truth while nothing happens
- `raters_world`: raters of whom a few rate to move traffic, through the code that folds and draws
- `raters`: what they move, with the bound on each rater and without it
- `__main__`: `scripts/bench NAME`
"""
