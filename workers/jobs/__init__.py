"""What runs now and then, through rq.

- `calibration`: predictions beside labels
- `availability`: how often endpoints answered
- `ways`: which way calls came by their endpoint
- `episode_records`: what records tell of episodes
- `episodes`: what episodes came to
- `choices_known`: what each task's choice was when
- `saving_records`: what they tell of routed calls
- `savings`: sums of what routing saved, by day
- `sequences_known`: which trial or hold-out a unit belongs to
- `compared_records`: what records tell of calls that chance assigned
- `comparing`: sums of two sides
- `compared_state`: how they are kept
- `shown`: what they show
- `trial_ends`: when a trial is over
- `traffic`: how much labelled traffic there was in the last week
- `recent`: which records of the last days a job reads
- `comparisons`: trials and hold-outs from records to the store
- `suggestions`: which tasks prompts of `general` look like
- `spenders`: who spent most
- `burials`: what dead processes held of budgets
- `worker`: who runs jobs, and refuses what is none of ours
- `place`: where they work
- `questions`: which of them have anything to do
- `queue`: by which names they are asked for
- `clock`: when they run, and in which process
- `jobs`: the only functions that a job may name
- `schedule`: the process that runs them
"""
