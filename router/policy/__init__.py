"""Who may, for what, under which rules; pure.

- `hints`: what a caller says beside the request itself
- `spend_tags`: by which tag its app's spend is booked as well
- `callers`: whose call it is, and which credential may travel on
- `complexity`: how complex a call is by its structure
- `tasks`: what kind of call it is
- `roles`: in which role it comes
- `standing`: what holds for an app, role, task and strategy, whatever a call asks
- `exploring`: whether it may be given to somebody to be tried
- `route`: how it is routed
- `profiled`: a call of a profile, which is no traffic
- `makers`: who made what lies at a provider, and who serves what goes on from it
- `constraints`: which endpoints may not serve it, and why
- `telling`: merged rules as JSON
- `effective`: what holds for an app, and in each of its tasks and roles, whatever a call asks
"""
