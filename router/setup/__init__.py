"""A first configuration, from keys that are at hand or from LiteLLM's.

- `known`: providers, by the variables of their keys
- `found`: which of them the environment has
- `draft`: what is to be written, and as YAML
- `litellm_secrets`: keys that stand in a file of LiteLLM's
- `litellm_reading`: its fields, each taken or named
- `litellm_words`: why some are not taken
- `litellm_providers`: where its deployments are called, and with which key
- `litellm_identity`: whether their names say which model they are
- `litellm_deployments`: each as an endpoint
- `litellm_settings`: what it says beside them
- `litellm_names`: by which names they are called
- `litellm`: all of it as a draft
- `choices`: what of that is wanted
- `drafting`: from choices to a draft
- `asking`: the questions
- `kept`: what a file that is there already says, and a new one keeps
- `landing`: the file comes to be
"""
