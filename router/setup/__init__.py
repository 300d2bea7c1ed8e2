"""A first configuration, from keys that are at hand or from LiteLLM's.

- `known`: providers, by the variables of their keys
- `found`: which of them the environment has
- `draft`: what is to be written, and as YAML
- `choices`: what of that is wanted
- `drafting`: from choices to a draft
- `asking`: the questions
- `landing`: the file comes to be
"""
