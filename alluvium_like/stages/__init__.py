"""The stages: intake, dispatch, integrate on a task's way, others beside it.

None imports another. A stage commits a row, then sets the next stage's wake; the wake is a hint,
the row is the truth, and a slow look finds what a lost hint would have told.
"""
