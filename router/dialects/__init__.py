"""What the wire looks like: `chat` (OpenAI Chat Completions) and `sse` (its streams)."""
