"""Why a decision fell as it did, later.

- `explanation`: the numbers that it was made from
- `files`: where they are kept, a file a day
- `log`: who writes them down and finds them again
"""
