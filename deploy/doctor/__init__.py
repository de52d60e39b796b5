"""`purser doctor`: what is configured, what runs, and the way to the App Store and back. It only looks.

findings.py       what a check says
examination.py    runs checks: all at once, each within its limit
configuration.py  the settings, the apps file and the catalogue, as the processes would read them
apps.py           what each app has and lacks
anchors.py        the pins and the root files
database.py       PostgreSQL: reached, migrated, its roles
journal.py        the courier, overdue and parked deliveries, the newest notification
broker.py         the broker, its queues, the workers
network.py        the gateway, verifyReceipt, the clock, the apps' backends
server_api.py     the App Store Server API with each app's key
arrival.py        a test notification on its way
diagnosis.py      which checks there are, in which order
"""

from deploy.doctor.diagnosis import Question, diagnose

__all__ = ["Question", "diagnose"]
