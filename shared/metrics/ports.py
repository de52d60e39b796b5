"""The port that metrics are told on: one of its own, never the one that the world talks to."""

from __future__ import annotations

import socket
from typing import Final

from shared.settings import ProcessSettings, refuse

WAITING_MAX: Final = 8
"""Scrapes that may wait to be taken."""


def open_port(settings: ProcessSettings) -> socket.socket:
    """PURSER_METRICS_PORT, listened on. Ends the process with a sentence when it cannot be had."""
    host, port = settings.bind.strip("[]"), settings.metrics_port
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what the last process's connections left behind
    try:
        listener.bind((host, port))
        listener.listen(WAITING_MAX)
    except OSError as error:
        listener.close()
        refuse(f"PURSER_METRICS_PORT: port {port} of {host} cannot be had: {error.strerror or error}")
    return listener
