"""The only wiring of the courier's process."""

from __future__ import annotations

import signal
from datetime import timedelta

from shared.bus.courier import Courier
from shared.bus.heartbeat import Heartbeat
from shared.bus.proofs import ProofRetention
from shared.bus.routes import CONSUMERS
from shared.bus.wake import Sleeper
from shared.bus.watching import BrokerWatched, DeliveriesWatched
from shared.bus.worker import CeleryPublisher, celery_app
from shared.clock import SystemClock
from shared.database import connect_engine
from shared.ids import system_ids
from shared.log import configure_logging
from shared.metrics.counted import begin_handing_over
from shared.metrics.read import BROKER_UP, DATABASE_UP, ReadAtScrape
from shared.metrics.serving import serve_metrics
from shared.settings import CourierSettings, read


def run_courier() -> None:
    """Hands over what is due until SIGTERM or SIGINT."""
    settings = read(CourierSettings)
    configure_logging(service="courier", level=settings.log_level)
    engine = connect_engine(
        settings.database_url.get_secret_value(), role="purser_courier", pool_size=2, application_name="courier"
    )
    app = celery_app(name="courier", broker_url=settings.broker_url.get_secret_value())
    sleeper = Sleeper(engine)
    clock, kept = SystemClock(), timedelta(days=settings.proofs_kept_days)
    courier = Courier(
        engine=engine,
        publisher=CeleryPublisher(app, system_ids()),
        sleeper=sleeper,
        clock=clock,
        consumers=CONSUMERS,
        heartbeat=Heartbeat(settings.heartbeat_file),
        proofs=ProofRetention(engine=engine, clock=clock, kept=kept) if kept else None,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: courier.stop())
    begin_handing_over(CONSUMERS)
    deliveries = DeliveriesWatched(engine=engine, consumers=list(CONSUMERS), clock=clock)
    serve_metrics(
        settings,
        ReadAtScrape(deliveries, up=DATABASE_UP, clock=clock),
        ReadAtScrape(BrokerWatched(app=app, queues=list(CONSUMERS)), up=BROKER_UP, clock=clock),
    )
    courier.run()
    sleeper.close()
    engine.dispose()
