"""What was folded, kept.

- `files`: one file of records, labels and a checkpoint
- `columns`: sorted names, and how many at once are found
- `index`: beside a file, which decisions are in it and what was said there
- `indexing`: how it is made
- `spent`: the ledger's rows and blocks in it
- `budgets`: and what is folded of budgets
- `archive`: stream to files
- `trail_files`, `trail`, `trail_reading`: the audit trail: files, how they are written, and read
- `upkeep`: indexes made where they are missing, and opened
- `lookup`: old decisions and their labels, over all files
- `tail`: what was said since the last file, from the stream
- `cold`: feedback for old decisions, and what must be known for it
- `thaw`: old decisions put back, of which more is said
- `rebuilt`: a state, from files
- `retention`: how long they stay
- `audit`: that state beside the stored one
- `restore`: an empty store, from files
"""
