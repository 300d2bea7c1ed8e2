"""A user's own prompts at every endpoint, before there is traffic.

- `own_sidecar`: a sidecar in this process, for calls under an app's rules
- `live_entries`: the configuration as a live check has it, and who is called
- `live_calls`: tiny calls in each dialect, and what their answers say
- `heard`: what that sidecar logs, kept off the terminal
- `live`: what an endpoint really does
- `live_verdicts`: that beside what is declared, and which line to change
- `live_lines`: the same as lines
- `results`: what came of one prompt at one endpoint
- `graders`: accepted answers, schemas and commands that grade an answer
- `check_command`: running such a command
- `shapes`: prompts in the shape of another dialect
- `prompts`: the file of prompts, checked whole
- `log`: what was begun and what came of it, on the disk before it costs
- `runs`: where runs lie, one at work at a time
- `money`: what calls cost, and may cost
- `plan`: which prompts go where
- `asking`: one call, and what its answer means
- `no_answer`: why none came, and what to do
- `judge`: what a judge is asked
- `grading`: from an answer to what it is worth
- `states`: how each endpoint does, and how far all of it is
- `run`: workers, turns and money
- `labels`: verdicts as events
- `sentence`: what they advise, in words
- `figures`: all figures of a profile, by name
- `table`: the same for terminals
- `page`: the same as one page of HTML
"""
