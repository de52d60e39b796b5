"""Use-case: what the store said and never reached us is found by asking, and goes the road that it would have gone.

A notification that is not in the journal is recorded as the gateway records it, under the same subject: the store may
call at the same moment, and it is one event all the same. A subscription that stands otherwise than we have heard is
recorded as `subscription.reported`. The verifier then handles both like everything else that the store says.

Whatever is found is written down before a cursor moves past it: a crash repeats, and never skips. What the store does
not answer ends the run of that app, environment and road, with a note, and no other's.

- `running`: one run, by one road
- `notifications`, `subscriptions`: the two roads
- `ports`: what they need from outside, and what is wanted of a run
- `wanted`: what is to be asked about at all
"""

from verifier.handlers.reconciling.ports import Alone, Errand, Observe, Reconciliations, Run, StoreMemory
from verifier.handlers.reconciling.running import Reconciler
from verifier.handlers.reconciling.wanted import askable, environments_of, wanted

__all__ = [
    "Alone",
    "Errand",
    "Observe",
    "Reconciler",
    "Reconciliations",
    "Run",
    "StoreMemory",
    "askable",
    "environments_of",
    "wanted",
]
