"""What can be called, and how it is doing.

- `base_url`: the address of a provider, and who signs in there
- `scalars`: what a scalar means: numbers, true and false
- `entries`: models, providers and endpoints as they are written
- `providers`: who takes what no endpoint lists
- `catalog`: all of it, compiled
- `headroom`: what an endpoint says that it has left
- `suspensions`: what an endpoint does not take and others do
- `breaker`: one endpoint's breaker
- `health`: all of them, by the endpoint's digest
- `token_sizes`: how many tokens a text has at least
- `retries`: how many attempts beyond the first the process may make
"""
