"""The bus: facts in a journal in Postgres, handed over by a courier, handled once.

    journal.py    records events with one delivery row per subscriber, and reads timelines
    routes.py     who hears of what: one constant
    courier.py    takes due delivery rows and puts their ids on the broker; the only publisher
    consumer.py   claims ids, runs a handler and records what followed, in one transaction
    parking.py    what could not be handled: list, retry, drop, and who did
    wake.py       tells sleepers that the journal has grown
    heartbeat.py  a sign of life for health checks
    worker.py     Celery: a message is a task named after its event type
    redis.py      what kombu's transport to Redis does not do for us
    rabbitmq.py   what is different where the broker is RabbitMQ
    watching.py   how the bus does, for the courier's metrics
    app.py        the courier's process
    migrations/   the schema `journal`

The broker carries ids only and may lose any of them: a delivery row exists until its consumer has handled the event.
"""
