"""The journal in Postgres, as the gateway uses it.

journal.py   records and reads
waiting.py   lets requests wait for what is recorded
"""
