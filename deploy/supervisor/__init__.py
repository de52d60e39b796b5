"""Starts processes in order, restarts what dies, and leaves nothing behind.

- `spec`: what a process is, and what it is doing
- `events`: what the supervisor tells
- `child`: one running process and its log
- `lifeline`: the pipe to `deploy/guardian.py`, which acts when the supervisor itself is killed
- `supervising`: the supervisor, with a thread for each process
"""

from deploy.supervisor.events import Died, Event, Ready, Started, Stopped
from deploy.supervisor.spec import Backoff, Spec, Status
from deploy.supervisor.supervising import Supervisor

__all__ = ["Backoff", "Died", "Event", "Ready", "Spec", "Started", "Status", "Stopped", "Supervisor"]
