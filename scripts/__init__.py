"""The project's own tools, not the user's: they are in no wheel.

- `benches`: what calls, draws and events cost, beside references in the same run
- `kits`: real client programs, unchanged, through a sidecar
- `proofs`: what is claimed, shown on the running parts
- `schemas`: JSON Schemas of the routing protocol, made from the code
"""
