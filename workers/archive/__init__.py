"""What was folded, kept.

- `files`: one file of records, labels and a checkpoint
- `archive`: stream to files
- `rebuilt`: a state, from files
- `retention`: how long they stay
- `audit`: that state beside the stored one
- `restore`: an empty store, from files
"""
