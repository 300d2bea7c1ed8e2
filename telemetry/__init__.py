"""The language that router and workers share; it knows no strategy.

In reading order:

- `numbers`, `names`, `columns`, `lines`: what is a number, a name, a column, a row, at every door
- `dates`: moments as people read them
- `errors`, `crashes`: what goes wrong, foreseen or not
- `damaged`: what comes of reading a value of the store that is not sound
- `logs`, `processes`: what is logged, and how processes end together
- `tokens`: the fixed bytes that carry a decision
- `layouts`: tokens and records as numpy reads many at once
- `decisions`: what feedback needs to know of a decision, shorter
- `digests`: by which names are known
- `traces`: the caller's trace of a call, as outcomes carry it
- `event_ids`: ids of events, which sort by time
- `events`: the fixed binary record of an outcome or a feedback
- `narrow`: records and tokens of version 2, as the wider ones of today
- `repeats`: the one that says that an app asked again
- `budget_layout`: that of what an attempt came to in budgets
- `decoding`: how all of them are read back
- `tiers`: what providers call their service tiers
- `wire`: what providers and their clients say, read
- `ingest`: the events that others send
- `schemas`: JSON Schemas of them all, made from the types
- `frames`: how records travel in one stream entry
- `trail`: the records of the audit trail: what is about to leave, which configuration is in force
- `trail_content`: what was read of it, each record once, and what is missing
- `observed`: what the router tells the observer of a call
- `keys`: every name in the store
- `address`, `topology`: where a store is as its address says, and its clients
- `embedded`, `store`: the private server, and how a store is found and laid out
- `kept_secrets`: the file that keeps what a store holds secret
- `secret`: what digests of users are keyed with, and what draws follow from
- `keyring`: the keys that seal decision ids
- `store_secrets`: all of them, as one thread follows the store
- `clock`: the store's clock
- `passed`: up to when what a producer recorded is in the streams
- `memory`: what the store's memory is used for, in words
- `trouble`: why a store does not do what it is asked, and what to do
- `jobs_trouble`: why no jobs are run, as a worker says
- `young`: how what is young lies in the store, packed
- `references`: which decisions an answer's id or a caller's reference names
- `generations`: how many parts a span of time has, of what lies packed in it
- `packed`: how values that are noted once lie in it
- `session_notes`: what the calls of a session said
- `conversations`, `stored_ids`: so do conversations without a session id, and who made what lies
  at providers
- `rater_rows`: whose the rows of raters are
- `forgetting`: what goes of a user, and how processes hear of it
- `explained`: and recent decisions, for whoever asks why
- `ledger_rows`, `ledger_blocks`: what calls cost, as loose rows and as blocks of closed days
- `ledger_questions`, `ledger_reading`: what the ledger is asked, and what it says
- `tag_names`: what tags in it are called, within a bound
- `changes`: what happened to endpoints, prices and routers
- `routers`: what each router says of itself
- `trials`: trials and hold-outs, as they lie in the store
- `saving_state`: sums of what routing saved, as they lie in the store
- `leases`: who may fold a shard
- `filling`: many fields or members as few arguments of a script
- `standings`: what release keys stand at, changed in one step with what is announced
- `scripts`: the few steps that the store must take atomically
- `direct_line`: round trips to the store at which calls wait
- `budget_accounts`, `allowances`: money that is granted before it is spent: store and holder
- `rate_accounts`: the same of what providers take a minute
- `budget_spends`, `budget_rows`: what calls came to in them, as records and as rows
- `thawing`: those by which what is old is put back
- `streams`: entries of several streams at once
- `journal`: where a record is safe before the answer ends
- `ended`: whose journals are sent to their end
- `orphans`: how much of it ended processes may leave
- `pacer`: how long a background loop rests
- `writer`: journal → frames → stream
- `wakeup`: word that there is news
- `reader`: rows → the reader's own copy
- `metrics`: counters and their exposition
- `tables`: files of columns, whole and as meant
- `recorded`: tables of recorded outcomes, for the demo and for replay
"""

__version__ = "0.1.0"
