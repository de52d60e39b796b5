"""The journal in Postgres, as the gateway uses it.

journal.py   records and reads
recorder.py  records what comes at once together
feed.py      reads the outward events in their order
waiting.py   lets requests wait for what is recorded
awaited.py   what they wait for
"""
