"""The simulator's service over HTTP, on this machine alone.

`server` starts and stops it. `google` and `panoramax` answer as those services do, `viewer` serves the viewer page, and
`faults` makes any of them fail on request. `search` reads Panoramax's queries, and `catalogue` answers them.
"""
