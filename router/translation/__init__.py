"""Between dialects: what a call says in one is said in another, or it cannot be said.

Nothing is dropped in silence. What has no counterpart makes an endpoint ineligible, but for a
closed table of advisory fields, which are named wherever they are left out.

- `prompt`: what a request says, whatever dialect it came in
- `advisory`: what may be left out of a request
- `exact`: JSON, read so that it can be said again
- `fields`: objects of a request, in which nothing is overlooked
- `media`: what the URLs of pictures and documents hold
- `efforts`: how much is to be thought, as a word and as a number
- `turns`: a conversation in an order that every dialect can say
- `tools`: what dialects ask of tools, and what an endpoint lets go
- `openai_shapes`: what OpenAI's two dialects say alike
- `chat_request_reader`, `chat_request_writer`: requests of OpenAI Chat Completions
- `messages_request_reader`, `messages_thinking`, `messages_request_writer`: of Anthropic's Messages
- `responses_request`: requests of OpenAI's Responses
- `requests`: a request, read in one dialect and written in another
- `completion`: what an answer says, whole and piece by piece
- `parts`: its parts in the one form that all dialects share
- `fitting`: an answer as it can stand in its conversation
- `counts`: its tokens, as each dialect counts them
- `chat_answer`, `messages_answer`, `responses_answer`: whole answers, read and said
- `event_writer`: streamed answers, said one part after another, and their end last
- `chat_events`, `messages_events`, `responses_events`: streams, read and said
- `errors`: errors of providers, whole and in a stream
- `stream`: a streamed answer while it comes
- `answers`: which of them an answer goes through
- `carried`: thoughts that a call carries, and the call without those that are another's
- `translated`: a call in another dialect, and the way back of its answer
- `translations`: what one call is to each endpoint
"""
