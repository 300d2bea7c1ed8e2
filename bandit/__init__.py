"""The statistics of Pointsman: pure functions of cells, configuration and time.

Nothing here does I/O, reads a clock, owns a random generator or logs. In reading order:

- `decay`: integer weights and the windows they live in
- `exact`: sums that never wrap
- `families`: which statistics there are, and what their columns hold
- `evidence`: decayed sums as of some time
- `cells`: additive integer statistics per (category, endpoint)
- `grid`: the same by position, for replay
- `grouping`: rows that belong together, found fast
- `quality`, `latency`, `reliability`, `cost`: one posterior each
- `call_costs`, `chains`: what a call costs, and what comes after it until an answer is kept
- `derived`: what derived labels are worth
- `teaching`: whose labels count for whom, and who taught what
- `parts`: calls by role
- `levels`: categories below others, whose labels are in both
- `posterior`: all of them together, for all categories, and the bank drawn from them
- `utility`: what a strategy maximises, as scores over a bank
- `trade`: a trade in words, as the money that a success is worth
- `drift`: whether an endpoint changed
- `hosts`: whether hosts of a group differ in quality
- `limits`: who keeps a limit with enough probability
- `pacing`: the price of money at which a budget lasts
- `draws`: the law by which one endpoint is drawn, with its exact propensity
- `dominance`: whether one group is shown to be better than another
- `incumbent`: the guarded law: challengers, allowance, releases
- `ordering`: what `cheapest` and `fastest` sort by, and how surely
- `orders`: the law of `cheapest` and `fastest`
- `regimes`: which evidence counts after it did
- `epochs`: and which once its task has another prompt
- `watcher`: both, for one endpoint and for all
- `ope`: what another policy would have gained, from a log
- `saving_sums`: calls as sums by app, task, day and drawn endpoint
- `carried`: what they would have come to under another draw
- `foretold`: what a call would have cost another endpoint, by its tokens
- `saving_sides`: sums of one release key by slices of time
- `saving_parts`: what one release key saved
- `incumbent_quality`: the incumbent's quality by propensities, or why that cannot be
- `savings`: what routing saved, by app and task
- `intervals`: of few observations and means near 0 or 1
- `contrasts`: who is best, and by how much another may be better
- `taskmap`: a map from tasks to endpoints, and what it gains over one for all
- `profile_answers`: answers to the same prompts, and one figure of each endpoint
- `profile_cells`: figures of one endpoint in one task
- `profiled`: what such answers advise: pin, route, or ask more
- `report`: posteriors as rows for people
- `replay`: the loop on recorded outcomes
"""
