"""What calls may spend: who has to allow them, how much they may come to, and who keeps count.

In reading order:

- `periods`: the hour, day or month that a moment lies in
- `claims`: the accounts of budgets that a call counts in
- `said_limits`: what a body says of how much may be written
- `amounts`: what a call may come to at an endpoint
- `bounds`: what an attempt comes to of which nobody told
- `standings`: how an account stands, and how that is told
- `told`: what calls and dry runs are told of budgets
- `holdings`: one allowance an account, as long as its period lasts
- `take_line`: how their words reach the store
- `allowances`: what calls reserve before they are sent, and settle when they ended
- `rate_claims`: the limits of providers that a call counts in
- `rate_allowances`: what calls take of them, without any waiting
- `leaves`: leave to make an attempt, by both
- `call_mix`: which kinds of calls count in an account
- `expected_calls`: how many are still to come in a period
- `solving`: the price of money at which what is left lasts
- `prices`: what money costs calls now
- `kept_prices`, `pacing`: what the store keeps of it, and how accounts come along
- `turned_away`: calls that budgets refused
- `warnings`: half, four fifths or all of a budget is spent
- `account_names`: what accounts of one value each are called, for all to show
- `watch`: the task that looks at all of it, once a second
- `exploring`: the ceilings of exploring, and whether calls may explore yet
"""
