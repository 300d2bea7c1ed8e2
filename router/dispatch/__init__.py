"""Running a plan: attempts, streams, the books.

- `headers`: which headers travel
- `observer_line`: what the observer is told of finished calls
- `fates`: what a refusal is about
- `codes`: codes of providers' errors as they may be shown
- `time_limits`: how long a call is waited for
- `redirects`: where a request goes in the end
- `held`: a stream until it may be let go
- `ending`: how one upstream call ended
- `attempt`: one call to one endpoint
- `asking`: how a call is put to an endpoint, and put again without what need not be sent
- `answer_headers`: what the headers of an answer say of its decision
- `fit`: what endpoints do not take
- `retries`: the same endpoint again, the next one, or the end
- `rival`: a second start beside a slow one
- `heartbeat`: signs of life while a stream is held
- `race`: the attempts of one call
- `recent`: what a name was lately known to mean
- `booking`: the one place where tokens and outcomes are made
- `diagnosis`: the setting at fault, and the fix
- `stream`: a streamed answer on its way to the client
- `call`: one call of a client, from its plan to the end of its answer
- `counting`: what the tokens of a prompt are counted as
- `copied`: what is read of an answer that is passed on
- `passthrough`: what is not ours to decide
- `takers`: which requests those are, and which provider takes each
- `passing`: where that goes, and what lies at a provider
"""
