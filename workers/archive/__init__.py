"""What was folded, kept.

- `files`: one file of records, labels and a checkpoint
- `archive`: stream to files
- `retention`: how long they stay
- `rebuilt`: a state, from files
- `audit`: that state beside the stored one
- `restore`: an empty store, from files
"""
