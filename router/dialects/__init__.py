"""The wire dialects: what of a request is read and rewritten, and how answers are read.

- `stream`: what streamed answers of any of them have in common
- `stored`: what lies at a provider under an id
- `fields`: the top level of a body, and what of it is for us
- `tool_keeping`: what tools keep at a provider, or have passed on
- `offered`: which tools a body offers, by name
- `keeping`: the same of whole calls, and of paths that are passed on
- `request`: what decision and policy see of any of them
- `misspelt`: names by which callers talk to us that look like a slip
- `errors`: errors as clients read them
- `ours`: what a body says to us
- `turns`: messages, as far as anybody looks
- `body`: what requests have in common
- `stream_options`: the one field that is added
- `thoughts`: what models thought, taken out of a conversation
- `chat_stream`, `chat`: OpenAI Chat Completions, answered and asked
- `messages_stream`, `messages`: Anthropic's Messages
- `prompt_size`: how large a prompt of Messages is, where nobody counts it
- `input_size`: the same of what is embedded or completed
- `responses_stream`, `responses`: OpenAI's Responses
- `completions`: OpenAI's legacy completions
- `embeddings`: vectors of texts
- `unread`: streams in a coding that we do not know
- `opaque`: bodies that are passed on unread
- `parsers`: which of them reads a call
"""
