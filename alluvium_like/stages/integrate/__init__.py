"""Integrate: one serial lane a repository, which alone moves its base branch."""
