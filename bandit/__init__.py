"""The statistics of Pointsman: pure functions of cells, configuration and time.

Nothing here does I/O, reads a clock, owns a random generator or logs. In reading order:

- `decay`: integer weights and the windows they live in
- `cells`: additive integer statistics per (category, endpoint)
- `quality`, `latency`, `reliability`, `cost`: one posterior each
- `posterior`: the four together, for all categories, and the bank drawn from them
- `utility`: what a strategy maximises, as scores over a bank
- `draws`: the law by which one endpoint is drawn, with its exact propensity
- `incumbent`: the guarded law: challengers, allowance, releases
- `orders`: the law of `cheapest` and `fastest`
- `report`: posteriors as rows for people
"""
