"""What calls, draws and events cost, beside references in the same run.

- `upstream`: a provider that costs next to nothing
- `http`: the sidecar beside nginx
- `draw`: a single draw
- `load`: whoever writes and reads events while they are measured
- `references`: the ways of others to take events
- `replay`: a rebuild from records
- `pipeline`: from a call's outcome to the posterior of a router
- `memory`: bytes of the store for each thing that it keeps
- `truth_setting`, `truth_units`, `truth_records`: simulated worlds, their units and records
- `truth_world`: traffic of such a world, through the code that folds and infers live
- `truth_tally`: what is shown of it, held against the truth
- `truth_falls`: one endpoint falls
- `truth`: whether posteriors tell the truth while nothing happens
- `__main__`: `scripts/bench NAME`
"""
