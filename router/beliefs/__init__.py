"""What is known now: one immutable value, and who refreshes it.

- `alarms`: which endpoints changed, and since when
- `choices`: what release keys stand at, and the law that follows
- `releases`: the same in the store
- `names`: what digests stand for, to be told to the store
- `switch`: whether routing is off, and since when
- `outlooks`: what each set of labels supports: that of all that share, and apps' own
- `beliefs`: configuration and posteriors of one version
- `keeper`: the thread that keeps them fresh
"""
