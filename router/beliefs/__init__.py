"""What is known now: one immutable value, and who refreshes it.

- `kept`: what the store keeps of choices
- `review_keys`: of which calls choices are, and who may serve those
- `levels`: which leaves of tasks decide for themselves
- `looked_at`: labels by which a change is told, as of two looks
- `splits`: which hosts are worse than the others of their group
- `alarms`: which endpoints changed, and since when
- `books`: what exploring cost, and how many calls a day bring
- `moves`: what an order moves, and whom it left
- `choices`: what release keys stand at, and the law that follows
- `releases`: the same in the store
- `names`: what digests stand for, to be told to the store
- `versions`: which versions of prompts apps named, and what a new one changes
- `served`: under which names endpoints answer
- `episodes`: how many calls are to come in a session
- `forgotten`: which users were forgotten of late
- `store_memory`: what takes the memory of the store
- `switch`: whether routing is off, since when and by which word
- `kept_switch`: the same of a sidecar and its store
- `outlooks`: what each set of labels supports: that of all that share, and apps' own
- `traffic`: which calls are traffic, and which a profile's
- `damage`: cells that count as unknown, and that this is told once
- `beliefs`: configuration and posteriors of one version
- `prompts`: versions of prompts in the store
- `history`: the same a while ago, as far as it is compared
- `teachers`: whose labels are behind it
- `followed`: the store as one thread follows it
- `keeper`: the thread that keeps them fresh
"""
