"""The web server as the processes' table starts it, where Granian alone would not do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from deploy.ports import free_port
from shared.ids import system_ids
from tests.support.processes import killed_in_the_end
from tests.support.stack import child_environment, wait_until

STARTS_FOR_EVER = """
import os, pathlib, threading

def create_app():
    pathlib.Path(f"starts-{os.getpid()}").touch()
    threading.Event().wait(300)
"""
KILL_TIMEOUT_S = 240


def test_a_server_whose_workers_still_start_stops_without_waiting_for_their_limit(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(STARTS_FOR_EVER, encoding="utf-8")
    port = free_port(bind="127.0.0.1", ids=system_ids())
    options = (
        f"--port {port} --interface wsgi --workers 2 --workers-kill-timeout {KILL_TIMEOUT_S} --factory slow:create_app"
    )
    env = child_environment() | {"PYTHONPATH": str(tmp_path)}
    server = subprocess.Popen([sys.executable, "-m", "deploy.serve", *options.split()], env=env, cwd=tmp_path)
    with killed_in_the_end(server):
        wait_until(lambda: len(list(tmp_path.glob("starts-*"))) == 2, what="two workers that start")
        server.terminate()
        assert server.wait(timeout=60) == 0
