"""The one YAML file: shapes, lines, checks, and one compiled value.

- `masking`: keys that stand in the file by mistake are not shown
- `lines`: YAML with the line of everything in it
- `places`: where file and state lie
- `process`: how the process itself runs: address, limits, state directory, store
- `entries`: strategies, apps and tasks as they are written, and the whole file
- `standing`: which endpoints may ever serve an app
- `checks`: what one entry says of another
- `validation`: whether the file has that shape
- `file`: the file, read and checked as a whole
- `compiled`: the configuration as one immutable value
- `reload`: the same taken anew while calls go on
- `watch`: the file of a running sidecar, and what of it is in force
"""
