"""Dispatch: the bounded pool that turns queued tasks into attempts, and attempts into verdicts."""
