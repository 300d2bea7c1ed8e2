"""What calls may spend: who has to allow them, how much they may come to, and who keeps count.

In reading order:

- `periods`: the hour, day or month that a moment lies in
- `claims`: the accounts of budgets that a call counts in
"""
