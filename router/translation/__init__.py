"""Between dialects: what a call says in one is said in another, or it cannot be said.

Nothing is dropped in silence. What has no counterpart makes an endpoint ineligible, but for a
closed table of advisory fields, which are named wherever they are left out.

- `prompt`: what a request says, whatever dialect it came in
- `completion`: what an answer says, whole and piece by piece
- `parts`: its parts in the one form that all dialects share
- `counts`: its tokens, as each dialect counts them
- `chat_answer`, `messages_answer`, `responses_answer`: whole answers, read and said
- `event_writer`: streamed answers, said one part after another, and their end last
- `chat_events`, `messages_events`, `responses_events`: streams, read and said
- `errors`: errors of providers, whole and in a stream
- `stream`: a streamed answer while it comes
- `answers`: which of them an answer goes through
"""
