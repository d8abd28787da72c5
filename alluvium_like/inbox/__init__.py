"""The inbox: looking at it, being told of changes, deciding what is settled, and claiming it.

Nothing in here knows of tasks' states or of the store; the intake stage puts the parts together.
"""
