"""Agents: how one is told what to do, what it left behind, and the one that is built in.

The daemon knows an agent as a command line, an environment and a folder. What an agent writes is
read with care and never believed; this package decides nothing about a task.
"""
