"""The demo and its simulated endpoints.

- `simulator`: endpoints that replay a table of outcomes
- `place`: where its files lie, and for how long
- `stack`: store, worker and router as processes of their own
- `client`: who calls, and keeps books of its own
- `budgeted`: a budget of an hour that ends as the calls do
- `spent`: the ledger beside the endpoints' own books
- `figures`: what was learned
- `run`: the demo from start to end
"""
