"""The one YAML file: shapes, lines, checks, and one compiled value.

- `process`: how the process itself runs: address, limits, state directory, store
- `entries`: strategies, apps and tasks as they are written, and the whole file
- `lines`: YAML with the line of everything in it
- `validation`: whether the file has that shape
- `checks`: what one entry says of another
- `file`: where the file is, read and checked as a whole
- `compiled`: the configuration as one immutable value
"""
