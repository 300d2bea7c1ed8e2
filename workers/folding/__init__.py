"""From the stream to the rows, each event once.

- `lease`, `roster`: who folds which shard
- `labels`: what a decision's label is, of all that was said of it
- `hearing`: the same for many decisions at once
- `raters`: which decisions of a rater count, where an app has raters
- `terms`: what records add to the rows
- `history`: for how long decisions were young
- `batch`: what a part of a stream says
- `effects`: what that changes
- `forgetting`: which rows of raters go with a user
- `thawed`: how a row is written that was put back
- `amounts`: what attempts add to the columns of the ledger
- `spending`: what outcomes add to its rows
- `ledger`: where a shard's rows of it lie
- `packing`: closed days of it become blocks
- `keeping`: leases are kept beside what takes long
- `young`: where what is young lies, and when it goes
- `asking`: what a batch must know before it can be folded
- `writing`: what a commit writes beside the rows
- `trimming`: what goes of a shard
- `shard`: one shard's rows and mark, and the commit that moves both
- `measuring`, `budget`, `memory`: what takes the store's memory, and what goes where it is short
- `settling`: up to when all that was decided is folded
- `resolution`: what a reference was found to mean
- `held`: what was said by reference, until it is settled what that means
- `learner`: the loop
"""
