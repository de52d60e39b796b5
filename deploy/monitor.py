"""Flower: shows the workers and their tasks. With a login, read-only, and with a bounded memory."""

from __future__ import annotations

from pydantic import SecretStr

from deploy.settings import FlowerPassword, StackSettings
from shared.bus.worker import celery_app
from shared.log import configure_logging
from shared.settings import BrokerSettings, read
from shared.urls import BrokerUrl

TASKS_MAX = 10_000
"""Tasks that it remembers; it holds them in memory, at about 2 KB each."""


class MonitorSettings(StackSettings, BrokerSettings):
    """Without a password Flower would be open to whoever reaches its port, so it does not start without.

    `flower_broker_api`: RabbitMQ's management API, `http://user:password@host:15672/api/`. It has the lengths of the
    queues; the rest Flower knows without.
    """

    broker_url: BrokerUrl
    flower_password: FlowerPassword
    flower_broker_api: SecretStr | None = None


def main() -> None:
    """Serves Flower until it is told to stop."""
    settings = read(MonitorSettings)
    configure_logging(service="flower", level="warning")
    _close_metrics()
    app = celery_app(name="flower", broker_url=settings.broker_url.get_secret_value())
    # given here and not on the command line, which everybody can read in the list of processes
    login = f"{settings.flower_user}:{settings.flower_password.get_secret_value()}"
    app.start(
        [
            "flower",
            f"--address={settings.bind}",
            f"--port={settings.flower_port}",
            f"--basic_auth={login}",
            "--read_only=True",
            f"--max_tasks={TASKS_MAX}",
            "--logging=none",  # by Tornado: what is said is said by ours
            *([f"--broker_api={api.get_secret_value()}"] if (api := settings.flower_broker_api) else []),
        ]
    )


def _close_metrics() -> None:
    """Flower asks for its login everywhere but here, and there are the names of workers and tasks in it.

    `/healthcheck` stays open: it says OK.
    """
    from flower.views.monitor import Metrics
    from tornado.web import authenticated

    Metrics.get = authenticated(Metrics.get)
