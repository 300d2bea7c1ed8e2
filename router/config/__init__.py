"""The one YAML file: shapes, lines, checks, and one compiled value.

- `masking`: keys that stand in the file by mistake are not shown
- `lines`: where everything in the file stands, and what is wrong with it
- `nodes`: YAML 1.2 as nodes
- `tree`: the tree in the file, merges and aliases written out
- `places`: where file and state lie
- `keys`: keys of callers, made and named
- `key_lines`: where they stand in the file
- `process`: how the process itself runs: address, limits, state directory, store
- `levels`: names of tasks, and of what is below them
- `entries`: strategies, apps and tasks as they are written, and the whole file
- `standing`: which endpoints may ever serve an app
- `claims`: which provider takes what no endpoint lists
- `checks`: what one entry says of another
- `spelling`: misspelt sections and fields, put right
- `unmeant`: values that nobody can have meant: placeholders
- `repairs`: wrong values taken out, so that all errors are found in one round
- `validation`: whether the file has that shape
- `file`: the file, read and checked as a whole
- `compiled`: the configuration as one immutable value
- `reload`: the same taken anew while calls go on
- `watch`: the file of a running sidecar, and what of it is in force
"""
