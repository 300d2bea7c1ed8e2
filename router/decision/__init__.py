"""From a call to a plan.

- `nonces`: ids of decisions
- `seal`: the sealed id that feedback comes back with
- `sealing`: by which keys
- `units`: who shares a draw
- `store_line`: how calls talk to the store
- `shared_draws`: draws in the store
- `recent`: a table of what was used last
- `stored_ids`: who made what lies at a provider
- `draws`: draws that this process knows
- `said`: what the calls of a session said before, and what that means
- `sessions`: all that this process knows of it
- `limiting`: limits of strategies and calls, applied
- `planner`: the plan, without any I/O
- `context`: what is settled before a draw
- `ruling`: what holds for a call, routed or passed on
- `guessing`: what a call's first prompt looks like
- `held`: what a call goes by that was drawn or said before it
- `progress`: how far sessions are, and what is cached of them
- `better`: who is better than what a unit drew
- `ended`: why a draw ended, by which numbers
- `endings`: whether one does
- `stand_ins`: who serves a unit while the endpoint that it drew is out
- `contexts`: from a request to what is settled: task, rules, route, unit
- `preview`: what would be decided, as JSON
- `decide`: from there to a decision
- `reasons`: why it fell so, in a word
- `ways`: who decided it: a fresh draw, an earlier one, or what kept that from serving
"""
