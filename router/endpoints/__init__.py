"""What can be called, and how it is doing.

- `base_url`: the address of a provider, and who signs in there
- `scalars`: what a scalar means: numbers, true and false
- `entry`: what every part of the configuration is written with
- `key_command`: a command whose output is a key
- `auth`: where a key comes from, and in which header it goes out
- `prices`: list prices as they are written
- `rates`: the same compiled: what a call costs
- `default_prices`: prices that nobody wrote down
- `maintenance`: windows in which nobody is to be asked
- `terms`: where an endpoint is, what becomes of data there, how it is paid
- `capabilities`: what models can do, by name and as bits
- `entries`: models, providers and endpoints as they are written
- `profile`: what a model can do where it is hosted
- `model_names`: when two names of models mean one model
- `keys`: the keys that calls are made with, kept fresh
- `providers`: who takes what no endpoint lists
- `catalog`: all of it, compiled
- `compiling`: how the catalog is made of entries
- `upkeep`: what time alone changes of it: keys and days
- `kinship`: whose thoughts an endpoint can go on from
- `headroom`: what an endpoint says that it has left
- `suspensions`: what an endpoint does not take and others do
- `breaker`: one endpoint's breaker
- `health`: all of them, by the endpoint's digest
- `machine_time`: how calls at once share a machine
- `token_sizes`: how many tokens a text has at least
- `retries`: how many attempts beyond the first the process may make
"""
