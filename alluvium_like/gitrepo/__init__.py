"""Git, through one door each for the owner's repository, the daemon's, and one workshop a task.

`runner` is the only user of the git command line. The daemon's git never runs in a repository or
worktree that an agent can write, except to fetch from it by path; agents' files are looked at with
the daemon's own GIT_DIR and index.
"""
