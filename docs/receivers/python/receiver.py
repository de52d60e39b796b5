# Takes Purser's webhooks: each event takes effect once, and what is older than what is known takes none.
import json
import os
import sqlite3
from contextlib import closing

from flask import Flask, request
from standardwebhooks import Webhook, WebhookVerificationError

app, webhook = Flask(__name__), Webhook(os.environ["WEBHOOK_SECRET"])
app.config["MAX_CONTENT_LENGTH"] = 64 * 1024
with closing(sqlite3.connect(os.environ["DATABASE"])) as database:
    database.execute("create table if not exists heard (event primary key, thing, version, data)")
    database.execute("create index if not exists newest on heard (thing, version)")


@app.post("/hooks")
def take():
    try:
        message = webhook.verify(request.get_data(), dict(request.headers))  # the bytes as they came: they are signed
    except (WebhookVerificationError, ValueError):
        return "", 401
    event, data = request.headers["webhook-id"], message["data"]
    about = ("environment", "user_id", "id", "currency") if "version" in data else ("id",)
    row = (event, json.dumps([data.get(part) for part in about]), data.get("version", event), json.dumps(data))
    with closing(sqlite3.connect(os.environ["DATABASE"])) as database, database:  # all of it is committed, or nothing
        new = database.execute("insert or ignore into heard values (?, ?, ?, ?)", row).rowcount
        if new and not database.execute("select 1 from heard where thing = ? and version > ?", row[1:3]).fetchone():
            print(event, message["type"], flush=True)  # what you do about it: in this transaction
    return "", 204
