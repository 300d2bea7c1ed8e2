"""The one YAML file: shapes, lines, checks, and one compiled value.

- `lines`: YAML with the line of everything in it
- `places`: where the state lies, as far as a file names it
- `process`: how the process itself runs: address, limits, state directory, store
- `entries`: strategies, apps and tasks as they are written, and the whole file
- `validation`: whether the file has that shape
- `checks`: what one entry says of another
- `file`: where the file is, read and checked as a whole
- `compiled`: the configuration as one immutable value
"""
