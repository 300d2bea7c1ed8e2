"""What others tell us.

- `feedback`: what an answer was worth
- `events`: outcomes and feedback of calls that others dispatched
"""
