"""The page as HTML: in a file, and live.

- `figures`: figures, times and words as they are shown
- `charts`: densities and shares as SVG
- `rows`: the parts of the page that its template repeats
- `html`: the page, a task and a decision as documents
- `keep`: a document as a file
- `scope`: to what a page is narrowed, as it was written
- `desk`: all of it in a running sidecar
"""
