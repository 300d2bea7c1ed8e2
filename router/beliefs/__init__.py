"""What is known now: one immutable value, and who refreshes it.

- `alarms`: which endpoints changed, and since when
- `choices`: what release keys stand at, and the law that follows
- `releases`: the same in the store
- `beliefs`: configuration and posteriors of one version
- `keeper`: the thread that keeps them fresh
"""
