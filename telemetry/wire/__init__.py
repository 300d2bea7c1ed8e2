"""What is on the wire, read: one reader a dialect, for who passes it on and who judges it.

- `sse`: events of a stream
- `lenient`: JSON that strict readers refuse and most clients take
- `reading`: objects, as far as anybody looks
- `thoughts`: what models thought, told by what only its maker can check
- `said`: how much text an answer holds
- `costs`: what a call cost by the provider's own word
- `usage`: what answers of every dialect report of themselves
- `told`: the same of answers of other kinds, and of those that hold none
- `chat`: OpenAI Chat Completions: answers whole and in pieces
- `completions`: OpenAI's legacy completions
- `messages`: Anthropic's Messages
- `responses`: OpenAI's Responses
- `embeddings`: vectors of texts
- `pieces`: what goes on with a streamed answer, checked and not built
"""
