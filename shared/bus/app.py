"""The only wiring of the courier's process."""

from __future__ import annotations

import signal

from shared.bus.courier import Courier
from shared.bus.heartbeat import Heartbeat
from shared.bus.routes import CONSUMERS
from shared.bus.wake import Sleeper
from shared.bus.worker import CeleryPublisher, celery_app
from shared.clock import SystemClock
from shared.database import connect_engine
from shared.ids import system_ids
from shared.log import configure_logging
from shared.settings import WorkerSettings, read


def run_courier() -> None:
    """Hands over what is due until SIGTERM or SIGINT."""
    settings = read(WorkerSettings)
    configure_logging(service="courier", level=settings.log_level)
    engine = connect_engine(
        settings.database_url.get_secret_value(), role="purser_courier", pool_size=2, application_name="courier"
    )
    sleeper = Sleeper(engine)
    courier = Courier(
        engine=engine,
        publisher=CeleryPublisher(
            celery_app(name="courier", broker_url=settings.broker_url.get_secret_value()), system_ids()
        ),
        sleeper=sleeper,
        clock=SystemClock(),
        consumers=CONSUMERS,
        heartbeat=Heartbeat(settings.heartbeat_file),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: courier.stop())
    courier.run()
    sleeper.close()
    engine.dispose()
