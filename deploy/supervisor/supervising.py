"""The supervisor.

Each process has a thread that starts it, waits for it and starts it again, and a log file of its own. Each is the
leader of a process group, so that a Ctrl-C in the terminal reaches the supervisor alone, and its children's children
go when it goes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from deploy.errors import ProcessUnavailable
from deploy.supervisor.child import Child, Log, how_it_ended
from deploy.supervisor.events import Died, Event, Ready, Started, Stopped
from deploy.supervisor.lifeline import Lifeline
from deploy.supervisor.spec import Backoff, Spec, State, Status
from shared.clock import Clock

LOOK_EVERY_S: Final = 0.05
"""How often a process that is starting is asked whether it is ready."""
KILLED_WITHIN_S: Final = 10.0
"""How long to wait for the end of what was sent SIGKILL; only the kernel can make it longer."""


class Supervisor:
    """Runs processes until `stop`. Leaving its context stops them. `on_event` is called one event at a time."""

    def __init__(
        self,
        *,
        log_dir: Path,
        clock: Clock,
        on_event: Callable[[Event], None],
        backoff: Backoff | None = None,
        keep_open: tuple[int, ...] = (),
    ) -> None:
        """`keep_open` are descriptors that stay open until the last process is gone, however we end: a lock, say."""
        self._log_dir = log_dir
        self._keep_open = keep_open
        self._clock = clock
        self._on_event = on_event
        self._backoff = backoff or Backoff()
        self._runners: dict[str, Runner] = {}
        self._changed = threading.Condition()
        self._telling = threading.Lock()
        self._guardian: Lifeline | None = None
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, specs: Sequence[Spec]) -> None:
        """Starts these, each once what it depends on is ready, and returns when all are.

        May be called again with further ones. Raises ProcessUnavailable when one ends or stays silent; what was
        started goes on until `stop`.
        """
        if self._guardian is None:
            self._log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._guardian = Lifeline(self._keep_open)
        new = [Runner(spec, self, self._guardian) for spec in specs]
        self._runners.update({runner.spec.name: runner for runner in new})
        for runner in new:
            runner.depth = self._depth(runner.spec)
            runner.thread.start()
        with self._changed:
            self._changed.wait_for(lambda: all(one.has_been_ready for one in new) or any(one.failure for one in new))
        for runner in new:
            if runner.failure is not None:
                raise runner.failure

    def stop(self) -> None:
        """Stops everything, dependants first, each within its limit. Returns when no process is left."""
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()
        for level in self._from_the_deepest():
            asked_at = self._clock.monotonic()
            for runner in level:
                runner.ask_to_stop()
            for runner in level:
                runner.see_it_stopped(waited_s=self._clock.monotonic() - asked_at)
        if self._guardian is not None:
            self._guardian.dismiss()
            self._guardian = None

    def status(self) -> list[Status]:
        """Every process, in the order of its start."""
        with self._changed:
            return [runner.status() for runner in self._runners.values()]

    def _depth(self, spec: Spec) -> int:
        """How many it depends on in a row: 0 for what depends on nothing."""
        return max((1 + self._depth(self._runners[name].spec) for name in spec.depends_on), default=0)

    def _from_the_deepest(self) -> Iterator[list[Runner]]:
        """The processes in groups: each group before those that it depends on."""
        for depth in sorted({runner.depth for runner in self._runners.values()}, reverse=True):
            yield [runner for runner in self._runners.values() if runner.depth == depth]

    # ---- what the runners use -----------------------------------------------------------------------------------

    @property
    def stopping(self) -> threading.Event:
        return self._stopping

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def backoff(self) -> Backoff:
        return self._backoff

    def log_file(self, name: str) -> Path:
        """Where a process's output goes."""
        return self._log_dir / f"{name}.log"

    def changing(self) -> threading.Condition:
        """The lock over every runner's state; notify it after a change."""
        return self._changed

    def await_ready(self, names: Sequence[str]) -> bool:
        """Waits until all of these have been ready; False when it is time to stop, or one of them never will be."""

        def settled() -> bool:
            runners = [self._runners[name] for name in names]
            return (
                self._stopping.is_set()
                or any(one.failure is not None for one in runners)
                or all(one.has_been_ready for one in runners)
            )

        with self._changed:
            self._changed.wait_for(settled)
            return not self._stopping.is_set() and all(self._runners[name].has_been_ready for name in names)

    def tell(self, event: Event) -> None:
        with self._telling:
            self._on_event(event)


class Runner:
    """One process's life: started, waited for, started again."""

    def __init__(self, spec: Spec, supervisor: Supervisor, guardian: Lifeline) -> None:
        self.spec = spec
        self.thread = threading.Thread(target=self._run, name=f"runner of {spec.name}", daemon=True)
        self.depth = 0
        self.has_been_ready = False
        self.failure: ProcessUnavailable | None = None
        self._supervisor = supervisor
        self._guardian = guardian
        self._state: State = "waiting"
        self._child: Child | None = None
        self._restarts = 0
        self._deaths_in_a_row = 0
        self._forced = False

    def status(self) -> Status:
        child = self._child
        return Status(name=self.spec.name, state=self._state, pid=child.pid if child else None, restarts=self._restarts)

    def ask_to_stop(self) -> None:
        """Sends the stop signal to the leader alone: Granian and Celery stop their own children in order."""
        child = self._child
        if child is not None:
            child.signal(self.spec.stop_signal)

    def see_it_stopped(self, *, waited_s: float) -> None:
        """Waits for the end; kills the whole group when the limit has passed."""
        self.thread.join(max(0.0, self.spec.stop_within_s - waited_s))
        child = self._child
        if self.thread.is_alive() and child is not None:
            self._forced = True
            child.kill_group()
        self.thread.join(KILLED_WITHIN_S)

    def _run(self) -> None:
        try:
            if self._supervisor.await_ready(self.spec.depends_on):
                while self._run_once():
                    self._restarts += 1
        finally:  # whatever went wrong in here
            if self._child is not None:
                self._child.kill_group()
                self._ended(self._child)
        with self._supervisor.changing():
            if self._state != "failed":
                self._state = "stopped"
            self._supervisor.changing().notify_all()

    def _run_once(self) -> bool:
        """From start to end; True when it is to be started again."""
        began = self._supervisor.clock.monotonic()
        log = Log(self._supervisor.log_file(self.spec.name))
        try:
            child = self._spawn(log)
        except OSError as error:
            return self._died(f"could not be started: {error.strerror or error}", log, up_s=0.0)
        if child is None:
            return False
        became_ready = self._await_ready(child, began)
        if not became_ready and not self._supervisor.stopping.is_set():
            silent = not child.has_ended()
            child.kill_group()
        else:
            silent = False
        reason = self._ended(child)
        if self._supervisor.stopping.is_set():
            self._supervisor.tell(Stopped(name=self.spec.name, forced=self._forced))
            return False
        if silent:
            reason = f"was not ready within {self.spec.ready_within_s:g} s"
        return self._died(reason, log, up_s=self._supervisor.clock.monotonic() - began)

    def _spawn(self, log: Log) -> Child | None:
        """The started process; None when it is time to stop. Raises OSError."""
        with self._supervisor.changing():
            if self._supervisor.stopping.is_set():
                return None
            if self.spec.ready_file is not None:
                self.spec.ready_file.unlink(missing_ok=True)
            self._child = child = Child(self.spec, log)
            self._guardian.watch(self.spec, child.pid, depth=self.depth)
            self._state = "restarting" if self._restarts else "starting"
        self._supervisor.tell(Started(name=self.spec.name, pid=child.pid, restarts=self._restarts))
        return child

    def _await_ready(self, child: Child, began: float) -> bool:
        """Asks until it is ready; False when it ended, it is time to stop, or the limit has passed."""
        clock = self._supervisor.clock
        while not (child.has_ended() or self._supervisor.stopping.is_set()):
            if self._is_ready():
                self._note_ready(after_s=clock.monotonic() - began)
                return True
            if clock.monotonic() - began > self.spec.ready_within_s:
                return False
            self._supervisor.stopping.wait(LOOK_EVERY_S)
        return False

    def _is_ready(self) -> bool:
        return (self.spec.ready is None or self.spec.ready()) and (
            self.spec.ready_file is None or self.spec.ready_file.exists()
        )

    def _note_ready(self, *, after_s: float) -> None:
        self._supervisor.tell(Ready(name=self.spec.name, after_s=after_s, restarts=self._restarts))
        with self._supervisor.changing():
            self._state = "ready"
            self.has_been_ready = True
            self._supervisor.changing().notify_all()

    def _ended(self, child: Child) -> str:
        """Waits for the process's end, and for that of whatever it leaves behind; returns how it ended."""
        code = child.wait()
        self._guardian.forget(child.pid)
        with self._supervisor.changing():
            self._child = None
        return how_it_ended(code)

    def _died(self, reason: str, log: Log, *, up_s: float) -> bool:
        last_lines = log.last_lines()
        if not self.has_been_ready:
            self._fail(reason, last_lines)
            return False
        backoff = self._supervisor.backoff
        self._deaths_in_a_row = 1 if up_s >= backoff.forgotten_after_s else self._deaths_in_a_row + 1
        delay_s = backoff.delay_s(self._deaths_in_a_row)
        self._state = "restarting"
        self._supervisor.tell(Died(self.spec.name, reason=reason, last_lines=last_lines, again_in_s=delay_s))
        return not self._supervisor.stopping.wait(delay_s)

    def _fail(self, reason: str, last_lines: tuple[str, ...]) -> None:
        self._supervisor.tell(Died(self.spec.name, reason=reason, last_lines=last_lines, again_in_s=None))
        log_file = self._supervisor.log_file(self.spec.name)
        with self._supervisor.changing():
            self._state = "failed"
            self.failure = ProcessUnavailable(
                f"{self.spec.name} {reason}, before it was ready; its log is {log_file}", last_lines=last_lines
            )
            self._supervisor.changing().notify_all()
