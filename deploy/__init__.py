"""Running Purser: the embedded PostgreSQL and Redis, the supervisor, the table of processes, the `purser` command.

It knows every service by its entry point's name; no service knows it.
"""
