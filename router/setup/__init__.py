"""A first configuration, from keys that are at hand or from LiteLLM's.

- `draft`: what is to be written, and as YAML
"""
