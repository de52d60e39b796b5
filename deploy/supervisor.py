"""Starts processes in order, restarts what dies, and leaves nothing behind.

Each process has a thread that starts it, waits for it and starts it again, and a log file of its own. Each is the
leader of a process group, so that a Ctrl-C in the terminal reaches the supervisor alone, and its children's children
go when it goes. What to do when the supervisor itself is killed is `guardian.py`'s part.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

from deploy.accounts import Account
from deploy.errors import ProcessUnavailable
from deploy.guardian import living
from shared.clock import Clock

LOOK_EVERY_S = 0.05
"""How often a process that is starting is asked whether it is ready."""
GROUP_GONE_WITHIN_S = 2.0
"""How long the members of a killed process group may take to vanish before their leader is started again."""
KILLED_WITHIN_S = 10.0
"""How long to wait for the end of what was sent SIGKILL; only the kernel can make it longer."""
GUARDIAN_AGAIN_S = 0.5
LOG_BYTES_MAX = 10 * 1024 * 1024
"""A larger log is set aside, as `NAME.log.1`, when its process is next started."""
LAST_LINES = 12
LAST_BYTES = 8 * 1024

State = Literal["waiting", "starting", "ready", "restarting", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class Spec:
    """One process: how it is started, when it is ready, after whom it starts and how it is stopped.

    It is ready when `ready`, which asks once and answers within a second or two, says so; or when it has made its
    `ready_file`, which is removed before each start; with neither, as soon as it runs. A process that dies, or is not
    ready in time, before it was ready for the first time is not started again: it would die the same way.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path = Path("/")
    account: Account | None = None
    ready: Callable[[], bool] | None = field(default=None, repr=False)
    ready_file: Path | None = None
    ready_within_s: float = 60.0
    depends_on: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a process that died is started again; forgotten once it has been up for a while."""

    first_s: float = 0.2
    most_s: float = 15.0
    forgotten_after_s: float = 60.0

    def delay_s(self, deaths: int) -> float:
        """Doubles with each death in a row, of which this is the n-th (from 1)."""
        return float(min(self.first_s * 2 ** min(deaths - 1, 16), self.most_s))


@dataclass(frozen=True, slots=True)
class Started:
    """A process was started, for the first time or again."""

    name: str
    pid: int
    restarts: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A process answers."""

    name: str
    after_s: float
    restarts: int


@dataclass(frozen=True, slots=True)
class Died:
    """A process ended although nobody asked it to. `again_in_s` is None when it is not started again."""

    name: str
    reason: str
    last_lines: tuple[str, ...]
    again_in_s: float | None


@dataclass(frozen=True, slots=True)
class Stopped:
    """A process ended because it was asked to; `forced` when it had to be killed."""

    name: str
    forced: bool


Event = Started | Ready | Died | Stopped


@dataclass(frozen=True, slots=True)
class Status:
    """What one process is doing now."""

    name: str
    state: State
    pid: int | None
    restarts: int


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
        self._runners: dict[str, _Runner] = {}
        self._changed = threading.Condition()
        self._telling = threading.Lock()
        self._guardian: _Guardian | None = None
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
            self._guardian = _Guardian(self._keep_open)
        new = [_Runner(spec, self, self._guardian) for spec in specs]
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

    def _from_the_deepest(self) -> Iterator[list[_Runner]]:
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


class _Runner:
    """One process's life: started, waited for, started again."""

    def __init__(self, spec: Spec, supervisor: Supervisor, guardian: _Guardian) -> None:
        self.spec = spec
        self.thread = threading.Thread(target=self._run, name=f"runner of {spec.name}", daemon=True)
        self.depth = 0
        self.has_been_ready = False
        self.failure: ProcessUnavailable | None = None
        self._supervisor = supervisor
        self._guardian = guardian
        self._state: State = "waiting"
        self._child: _Child | None = None
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
        log = _Log(self._supervisor.log_file(self.spec.name))
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

    def _spawn(self, log: _Log) -> _Child | None:
        """The started process; None when it is time to stop. Raises OSError."""
        with self._supervisor.changing():
            if self._supervisor.stopping.is_set():
                return None
            if self.spec.ready_file is not None:
                self.spec.ready_file.unlink(missing_ok=True)
            self._child = child = _Child(self.spec, log)
            self._guardian.watch(self.spec, child.pid, depth=self.depth)
            self._state = "restarting" if self._restarts else "starting"
        self._supervisor.tell(Started(name=self.spec.name, pid=child.pid, restarts=self._restarts))
        return child

    def _await_ready(self, child: _Child, began: float) -> bool:
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

    def _ended(self, child: _Child) -> str:
        """Waits for the process's end, and for that of whatever it leaves behind; returns how it ended."""
        code = child.wait()
        self._guardian.forget(child.pid)
        with self._supervisor.changing():
            self._child = None
        return _how(code)

    def _died(self, reason: str, log: _Log, *, up_s: float) -> bool:
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


class _Child:
    """A running process that leads its own group. Its pid is never signalled once it may belong to somebody else."""

    def __init__(self, spec: Spec, log: _Log) -> None:
        with log.open() as output:
            self._popen = subprocess.Popen(
                list(spec.argv),
                env=dict(spec.env),
                cwd=spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **(spec.account.popen_arguments() if spec.account is not None else {}),
            )
        self._reaping = threading.Lock()
        self._reaped = False

    @property
    def pid(self) -> int:
        return self._popen.pid

    def signal(self, number: signal.Signals) -> None:
        """To the leader."""
        with self._reaping, contextlib.suppress(ProcessLookupError):
            if not self._reaped:
                os.kill(self.pid, number)

    def kill_group(self) -> None:
        """SIGKILL to the leader and everything that stayed in its group."""
        with self._reaping:
            if not self._reaped:
                self._kill_group()

    def has_ended(self) -> bool:
        if sys.platform == "darwin":  # no waitid before Python 3.13
            return self._popen.poll() is not None
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def wait(self) -> int:
        """Waits for the leader's end, ends the rest of its group and returns the leader's exit code."""
        if sys.platform != "darwin":  # left as a zombie, it keeps its pid, and so its group's number, ours
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._popen.wait()
        with self._reaping:
            self._kill_group()
            self._reaped = True
            code = self._popen.wait()
        self._await_empty_group()
        return code

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM where only zombies are left
            os.killpg(self.pid, signal.SIGKILL)

    def _await_empty_group(self) -> None:
        pause = threading.Event()
        for _ in range(int(GROUP_GONE_WITHIN_S / LOOK_EVERY_S)):
            if not living([self.pid]):
                return
            pause.wait(LOOK_EVERY_S)


class _Log:
    """One process's log file, from the moment of its start on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_name(path.name + ".1"))
        self._start = path.stat().st_size if path.exists() else 0

    def open(self) -> BinaryIO:
        return self._path.open("ab")

    def last_lines(self) -> tuple[str, ...]:
        """The last lines that this run wrote."""
        with contextlib.suppress(OSError), self._path.open("rb") as log:
            log.seek(max(self._start, self._path.stat().st_size - LAST_BYTES))
            return tuple(log.read().decode(errors="replace").splitlines()[-LAST_LINES:])
        return ()


class _Guardian:
    """The supervisor's end of the pipe to `guardian.py`, which is started again should it die."""

    def __init__(self, keep_open: tuple[int, ...]) -> None:
        self._keep_open = keep_open
        self._lock = threading.Lock()
        self._watched: dict[int, str] = {}
        self._dismissed = threading.Event()
        self._popen = self._spawn()
        self._thread = threading.Thread(target=self._keep, name="runner of the guardian", daemon=True)
        self._thread.start()

    def watch(self, spec: Spec, group: int, *, depth: int) -> None:
        with self._lock:
            self._watched[group] = f"watch {group} {spec.stop_signal.value} {spec.stop_within_s} {depth}"
            self._write(self._watched[group])

    def forget(self, group: int) -> None:
        with self._lock:
            if self._watched.pop(group, None) is not None:
                self._write(f"forget {group}")

    def dismiss(self) -> None:
        """Ends it; by now it watches nothing."""
        with self._lock:
            self._dismissed.set()
            self._hang_up()
        self._thread.join()

    def _spawn(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            # by path and isolated: it starts in some milliseconds, and finds no module of this directory by accident
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("guardian.py")), *self._watched.values()],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd="/",
            text=True,
            bufsize=1,
            start_new_session=True,
            pass_fds=self._keep_open,
        )

    def _keep(self) -> None:
        while True:
            self._popen.wait()
            if self._dismissed.wait(GUARDIAN_AGAIN_S):
                return
            with self._lock:
                if self._dismissed.is_set():
                    return
                self._hang_up()
                self._popen = self._spawn()

    def _write(self, line: str) -> None:
        stdin = self._popen.stdin
        with contextlib.suppress(BrokenPipeError, ValueError):  # it died: its successor is told everything
            if stdin is not None:
                stdin.write(line + "\n")
                stdin.flush()

    def _hang_up(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            if self._popen.stdin is not None:
                self._popen.stdin.close()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
