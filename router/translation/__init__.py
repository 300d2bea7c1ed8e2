"""Between dialects: what a call says in one is said in another, or it cannot be said.

Nothing is dropped in silence. What has no counterpart makes an endpoint ineligible, but for a
closed table of advisory fields, which are named wherever they are left out.

- `prompt`: what a request says, whatever dialect it came in
- `completion`: what an answer says, whole and piece by piece
"""
