"""One verb a file; what a verb needs is imported when it runs.

- `console`: what a verb says, and how it ends
- `state`: whether the state directory can be used
- `signals`: a verb that is asked to end leaves nothing that runs
- `inputs`: what verbs are given: configuration, store, archive, the sidecar's address
- `effective`: what holds for every app, and where each value comes from
- `check`, `check_live`, `catalog`: the configuration and its endpoints
- `init_told`, `init`: a first configuration
- `switch`: routing on and off
- `classify_file`, `classify`: how well exemplars tell tasks apart
- `profile_shown`, `profile_line`, `profile_told`, `profile_child`, `profile`: a user's own
  prompts at every endpoint
- `release`: says yes to a proposal, undoes a release, or lists both
- `trial_power`, `trial_plan`, `trial`: comparisons on sessions that chance assigns
- `key`: keys of callers
- `early`, `adopted`, `supervisor`, `greeting`, `serve`, `router_process`, `up`: the running
  parts
- `report`, `spend`, `explain_session`, `explain`, `feedback`: what people read and say
- `forget`: what is kept of a user goes
- `ingest_event`, `ingest_file`, `ingest`: calls that others dispatched
- `audit_privacy`: what left for where
- `audit`, `restore`: the archive
- `demo`, `replay`: what routing would gain
"""
