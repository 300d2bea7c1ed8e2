"""Real client programs from their registries, unchanged, through a real sidecar.

- `agent`: what the scripted agent does next, whatever the dialect
- `answers`: an answer of it, before it is said
- `agent_chat`, `agent_messages`, `agent_responses`: the agent in each dialect
- `agent_provider`: the provider behind whose two hosts it speaks
- `installed`: packages, pinned, in a folder of the project's own
- `clients`: the programs, and how each is pointed at an address
- `sessions`: one conversation of a program
- `compared`: what reaches a provider directly and through the sidecar
- `books`: what the sidecar booked, beside what the provider saw
- `run`: a client's conversations over two endpoints, and the verdict
- `sdk_calls`: calls with the SDKs of OpenAI and Anthropic
- `third_party`: the same SDKs before a fake provider that is not ours
- `standard`: langchain's own test suite
- `screenshots`: `scripts/screenshots`, the page in a browser
- `__main__`: `scripts/clients NAME`

`programs/` holds what runs in environments of their own: they import nothing of ours.
"""
