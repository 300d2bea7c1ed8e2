"""Why a decision fell as it did, later.

- `rows`: what is kept of one decision alone, packed
- `parts`: what many of them share, packed
- `explanation`: the numbers that it was made from
- `kept`: how a decision is found again, wherever it is kept
- `earlier`: what earlier versions kept
- `files`: where they are kept, a file a day
- `shared`: where all routers of a store find the recent ones
- `log`: who writes them down
- `counterfactual`: what another strategy would have done
- `sentence`: why, in one sentence
- `told`: all of it in words
- `session`: the decisions of a session, in order
- `desk`: which decision is meant, and what is kept of it
- `asked`: what is asked over HTTP
"""
