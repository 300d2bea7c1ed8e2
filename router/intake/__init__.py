"""What others tell us.

- `doors`: what the doors share
- `items`: what feedback may say
- `feedback`: what an answer was worth
- `spent`: what a call of others used and cost
- `forms`: the forms of a request of events
- `events`: outcomes and feedback of calls that others dispatched
- `forget`: whom to forget
"""
