"""What can be called, and how it is doing.

- `base_url`: the address of a provider, and who signs in there
- `scalars`: what a scalar means: numbers, true and false
- `capabilities`: what models can do, by name and as bits
- `droppable`: what an endpoint that translates may leave out though it means something
- `entries`: models, providers and endpoints as they are written
- `profile`: what a model can do where it is hosted
- `model_names`: when two names of models mean one model
- `providers`: who takes what no endpoint lists
- `catalog`: all of it, compiled
- `kinship`: whose thoughts an endpoint can go on from
- `headroom`: what an endpoint says that it has left
- `suspensions`: what an endpoint does not take and others do
- `breaker`: one endpoint's breaker
- `health`: all of them, by the endpoint's digest
- `token_sizes`: how many tokens a text has at least
- `retries`: how many attempts beyond the first the process may make
"""
