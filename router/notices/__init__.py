"""What changed, told once by one of the routers: to the store, to the log, and to a webhook.

- `listed`: what a configuration lists, and how it differs from another one
- `troubles`: what needs attention at this router
- `presence`: what this router says of itself
- `held`: troubles in the store: when they began, and when the last router had none any more
- `events`: which endpoints, prices, words of the switch and allowances are news to the store
- `trials`: which trials began or ended
- `looking`: how a thread looks at the store again and again
- `chronicle`: the thread that looks for all of it
- `notice`: releases, alarms and other changes as one shape
- `backlog`: which notices wait for a receiver, and how far it is
- `webhook`: one notice, signed and sent
- `sender`: the thread that sends them
"""
