"""The wire dialects: what of a request is read and rewritten, and how answers are read.

- `request`: what decision and policy see of any of them
- `errors`: errors as clients read them
- `fields`: the top level of a body, and what of it is for us
- `ours`: what that says
- `chat`: OpenAI Chat Completions
- `sse`: its streams
- `unread`: streams in a coding that we do not know
- `opaque`: bodies that are passed on unread
"""
