"""The page as HTML: in a file, and live.

- `figures`: figures, times and words as they are shown
- `charts`: densities and shares as SVG
- `rows`: the parts of the page that its template repeats
- `decision`: a decision as its page shows it
- `html`: the page, a task and a decision as documents
- `keep`: a document as a file
- `desk`: all of it in a running sidecar
"""
