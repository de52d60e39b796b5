"""What the dashboard shows, and why. The metrics are explained in docs/operating.md."""

from __future__ import annotations

from typing import Any

from deploy.dashboard.panels import BLUE, GREEN, ORANGE, RED, SOURCE, Graph, Levels, Query, Row, Tile, laid_out, worse
from deploy.processes import PROCESSES

WATCHED = [name for name, process in PROCESSES.items() if process.has_metrics]
"""Each is a job of Prometheus."""

JOBS = "|".join(WATCHED)
RATE = "[$__rate_interval]"
HERE = 'environment=~"$environment"'
CREDITED = f'direction="credited",{HERE}'
DEBITED = f'direction="debited",{HERE}'
TOLD = 'app=~"$app",endpoint=~"$endpoint"'


def dashboard() -> dict[str, Any]:
    """The whole of it, as Grafana reads it."""
    return {
        "uid": "purser",
        "title": "Purser",
        "description": "From a purchase that is accepted to the webhook that tells of it. What each alert means, and "
        "what to do, is in deploy/runbook.md.",
        "tags": ["purser"],
        "schemaVersion": 39,
        "editable": True,
        "timezone": "browser",
        "graphTooltip": 1,  # one crosshair through all graphs
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": laid_out(ROWS),
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus"},
        _variable("environment", "Environment", "label_values(purser_ledger_amount_total, environment)"),
        _variable("app", "App", "label_values(purser_webhook_deliveries, app)"),
        _variable("endpoint", "Endpoint", 'label_values(purser_webhook_deliveries{app=~"$app"}, endpoint)'),
    ]


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    """All by default, also what has no value yet; looked up again whenever the time changes."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": dict(SOURCE),
        "query": {"query": query, "refId": name},
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
    }


def rate(metric: str, matching: str = "", *, by: str = "") -> str:
    """How much a second."""
    return f"sum{_by(by)} (rate({metric}{{{matching}}}{RATE}))" if matching else f"sum{_by(by)} (rate({metric}{RATE}))"


def quantile(share: float, metric: str, matching: str = "", *, by: str = "") -> str:
    """What so large a share stayed under."""
    buckets = rate(f"{metric}_bucket", matching, by=f"le, {by}" if by else "le")
    return f"histogram_quantile({share}, {buckets})"


def told_once(metric: str, matching: str = "", *, by: str) -> str:
    """What several processes read from one database, and each tells: the same, so the largest."""
    return f"max{_by(by)} ({metric}{{{matching}}})" if matching else f"max{_by(by)} ({metric})"


def grown(metric: str, matching: str, *, by: str, within: str) -> str:
    """How much more there is of it than there was, whoever of them told so then: one that is new knows no before."""
    before = f"min by ({by}) (min_over_time({metric}{{{matching}}}[{within}]))"
    return f"{told_once(metric, matching, by=by)} - {before}"


def events(states: str) -> str:
    """How many deliveries of events are in one of these states."""
    each = told_once("purser_deliveries", f'state=~"{states}"', by="consumer, state")
    return f"sum({each})"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def spread(metric: str, matching: str = "") -> tuple[Query, ...]:
    """The half, 95 and 99 of a hundred."""
    return tuple(Query(quantile(share, metric, matching), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99))


WELL = Row(
    "Is it well?",
    (
        Tile(
            "Processes up",
            f"Of {len(WATCHED)} kinds, how many have at least one that Prometheus reaches.",
            (Query(f'count(count by (job) (up{{job=~"{JOBS}"}} == 1))'),),
            levels=Levels(RED, ((len(WATCHED), GREEN),)),
            words={len(WATCHED): f"all {len(WATCHED)}"},
            nothing="none",
        ),
        Tile(
            "Alerts firing",
            "Those of deploy/prometheus/alerts.yml; which, Prometheus says under Alerts.",
            (Query('count(ALERTS{alertname=~"Purser.*",alertstate="firing"}) or vector(0)'),),
            levels=worse(orange=1),
            words={0: "none"},
        ),
        Tile(
            "Oldest unhandled event",
            "How long the event that has waited longest has waited, for any consumer; parked and dead ones have not.",
            (Query("max(purser_oldest_unhandled_seconds)"),),
            unit="s",
            levels=worse(orange=120, red=900),
            decimals=0,
        ),
        Tile(
            "Parked",
            "Events that cannot be handled as they are: `purser parked` lists them, with what is wrong.",
            (Query(events("parked")),),
            levels=worse(orange=1),
            words={0: "none"},
            decimals=0,
        ),
        Tile(
            "Dead",
            "Events that were tried for days and given up: `purser parked` lists these too.",
            (Query(events("dead")),),
            levels=worse(red=1),
            words={0: "none"},
            decimals=0,
        ),
        Tile(
            "Books: what is off",
            "Findings of the newest audit, which compares the journal with the books both ways: what was verified and "
            "not posted, or posted twice, is one.",
            (Query("max(purser_ledger_audit_problems)"),),
            levels=worse(red=1),
            words={0: "nothing"},
            decimals=0,
            nothing="no audit yet",
        ),
        Tile(
            "Accepted",
            "Purchases and notifications written down and answered, of this moment.",
            (Query(rate("purser_accepted_total")),),
            unit="reqps",
            decimals=1,
            nothing="none yet",
        ),
        Tile(
            "Verified in this time",
            "Purchases that the store has confirmed.",
            (Query('sum(increase(purser_verifications_total{outcome="verified"}[$__range]))'),),
            decimals=0,
            nothing="none yet",
        ),
        Tile(
            "Credited in this time",
            "By currency, in the chosen environments. An estimate from samples, as all sums here: the books are exact.",
            (
                Query(
                    f"sum by (currency) (increase(purser_ledger_amount_total{{{CREDITED}}}[$__range]))",
                    "{{currency}}",
                ),
            ),
            decimals=0,
            nothing="nothing yet",
        ),
        Tile(
            "Under way",
            "Events that not all have handled who are to: waiting, or on the broker. A broker that fails loses none.",
            (Query(events("waiting|handed")),),
            levels=Levels(BLUE, ((1000, ORANGE),)),
            decimals=0,
        ),
        Tile(
            "Oldest webhook waiting",
            "How long the webhook that has waited longest has waited, for the chosen endpoints.",
            (Query(f"max(purser_webhook_oldest_waiting_seconds{{{TOLD}}})"),),
            unit="s",
            levels=worse(orange=900, red=3600),
            decimals=0,
            nothing="no endpoint",
        ),
        Tile(
            "Database and broker",
            "As the processes see them. While the broker is down all goes on being accepted, and waits in PostgreSQL.",
            (Query("max(purser_database_up)", "database"), Query("min(purser_broker_up)", "broker")),
            levels=Levels(RED, ((1, GREEN),)),
            words={0: "down", 1: "up"},
        ),
    ),
)

ROAD = Row(
    "The road of a purchase",
    (
        Graph(
            "Accepted",
            "By what was sent in; `repeated` had been accepted before, and changed nothing.",
            (Query(rate("purser_accepted_total", by="kind, result"), "{{kind}}, {{result}}"),),
            unit="reqps",
            stacked=True,
        ),
        Graph(
            "Refused",
            "By the problem's code. `too-many-requests` are the rate limits.",
            (Query(rate("purser_refused_total", by="reason"), "{{reason}}"),),
            unit="reqps",
            stacked=True,
            nothing="nothing refused in this time",
        ),
        Graph(
            "Verified",
            "What became of what was sent in. `later`: the store was not ready, and is asked again.",
            (Query(rate("purser_verifications_total", by="outcome"), "{{outcome}}"),),
            unit="ops",
            stacked=True,
        ),
        Graph(
            "Rejected, and why",
            "By rejection code. Many at once: a release of the app that sends the wrong thing, or a fraud.",
            (Query(rate("purser_verifications_total", 'outcome="rejected"', by="code"), "{{code}}"),),
            unit="ops",
            stacked=True,
            nothing="nothing rejected in this time",
        ),
        Graph(
            "Events recorded",
            "By type, after their commit.",
            (Query(rate("purser_events_recorded_total", by="type"), "{{type}}"),),
            unit="ops",
            stacked=True,
        ),
        Graph(
            "Events handled",
            "By consumer.",
            (Query(rate("purser_events_handled_total", 'outcome="handled"', by="consumer"), "{{consumer}}"),),
            unit="ops",
        ),
        Graph(
            "Not handled at once",
            "later: the store or the database was not ready. parked: it cannot be handled as it is. failed: it is "
            "tried again. dead: given up.",
            (
                Query(
                    rate("purser_events_handled_total", 'outcome!="handled"', by="consumer, outcome"),
                    "{{consumer}}, {{outcome}}",
                ),
            ),
            unit="ops",
            nothing="everything was handled at once",
        ),
        Graph(
            "From recorded to handled",
            "How long events took on their way to a consumer, all of them.",
            spread("purser_event_age_seconds"),
            unit="s",
        ),
        Graph(
            "From recorded to handled, p95 by consumer",
            "Who waits on a store takes longer.",
            (Query(quantile(0.95, "purser_event_age_seconds", by="consumer"), "{{consumer}}"),),
            unit="s",
        ),
        Graph(
            "Under way",
            "Not yet handled, by consumer: waiting to be handed over or to be tried again, and handed over.",
            (
                Query(
                    told_once("purser_deliveries", 'state=~"waiting|handed"', by="consumer, state"),
                    "{{consumer}}, {{state}}",
                ),
            ),
            width=12,
        ),
        Graph(
            "Oldest unhandled event",
            "By consumer; 0 when nothing waits.",
            (Query(told_once("purser_oldest_unhandled_seconds", by="consumer"), "{{consumer}}"),),
            unit="s",
            levels=worse(orange=120, red=900),
            width=12,
        ),
    ),
)

STORE = Row(
    "The store",
    (
        Graph(
            "Answers",
            "By API and status: 0 is verifyReceipt's yes.",
            (Query(rate("purser_store_calls_total", by="api, status"), "{{api}}, {{status}}"),),
            unit="ops",
            stacked=True,
        ),
        Graph(
            "How long it takes",
            "p50 and p95 by API.",
            (
                Query(quantile(0.5, "purser_store_call_duration_seconds", by="api"), "{{api}}, p50"),
                Query(quantile(0.95, "purser_store_call_duration_seconds", by="api"), "{{api}}, p95"),
            ),
            unit="s",
        ),
        Graph(
            "To be asked again",
            "By the status that made it so.",
            (Query(rate("purser_store_retries_total", by="status"), "{{status}}"),),
            unit="ops",
            nothing="nothing had to be asked again",
        ),
        Graph(
            "Never told, and found by asking",
            "What the reconciler brought in, per hour: notifications of the store that had not come here.",
            (
                Query(
                    grown("purser_reconciliation_missed_total", HERE, by="app, environment, road", within="1h"),
                    "{{app}}, {{environment}}, {{road}}",
                ),
            ),
            nothing="nothing was missed",
            width=12,
        ),
        Graph(
            "Last looked",
            "How long ago the reconciler last came to the end of its looking.",
            (
                Query(
                    "time() - max by (app, environment, road) "
                    f"(purser_reconciliation_looked_timestamp_seconds{{{HERE}}})",
                    "{{app}}, {{environment}}, {{road}}",
                ),
            ),
            unit="s",
            levels=worse(orange=3600),
            nothing="never: no app has a key of the App Store Server API",
            width=12,
        ),
    ),
)

LEDGER = Row(
    "The books",
    (
        Graph(
            "Credited",
            "Units of each currency a minute.",
            (Query(f"60 * {rate('purser_ledger_amount_total', CREDITED, by='currency')}", "{{currency}}"),),
        ),
        Graph(
            "Debited",
            "By refunds, spends and clawbacks: units of each currency a minute.",
            (Query(f"60 * {rate('purser_ledger_amount_total', DEBITED, by='currency')}", "{{currency}}"),),
            nothing="nothing was debited",
        ),
        Graph(
            "The newest audit",
            "How long ago it ended, and how long it took.",
            (
                Query("time() - max(purser_ledger_audit_finished_timestamp_seconds)", "ended so long ago"),
                Query("max(purser_ledger_audit_duration_seconds)", "took"),
            ),
            unit="s",
            nothing="no audit yet",
        ),
    ),
)

WEBHOOKS = Row(
    "Webhooks to your backend",
    (
        Graph(
            "Attempts",
            "By outcome: taken, refused by an answer, or unreachable.",
            (
                Query(
                    rate("purser_webhook_attempts_total", TOLD, by="app, endpoint, outcome"),
                    "{{app}}/{{endpoint}}, {{outcome}}",
                ),
            ),
            unit="ops",
            stacked=True,
        ),
        Graph(
            "How long your backend takes",
            "p95 by endpoint. What is slow is tried with less at once.",
            (
                Query(
                    quantile(0.95, "purser_webhook_attempt_duration_seconds", TOLD, by="app, endpoint"),
                    "{{app}}/{{endpoint}}",
                ),
            ),
            unit="s",
        ),
        Graph(
            "Not taken yet",
            "Waiting, given up (exhausted) and impossible to send (parked), by endpoint: `purser webhooks list`.",
            (
                Query(
                    told_once("purser_webhook_deliveries", f'state!="delivered",{TOLD}', by="app, endpoint, state"),
                    "{{app}}/{{endpoint}}, {{state}}",
                ),
            ),
            nothing="all was taken",
        ),
        Graph(
            "Oldest waiting",
            "By endpoint; 0 when nothing waits.",
            (
                Query(
                    told_once("purser_webhook_oldest_waiting_seconds", TOLD, by="app, endpoint"), "{{app}}/{{endpoint}}"
                ),
            ),
            unit="s",
            levels=worse(orange=900, red=3600),
            width=24,
            nothing="no endpoint",
        ),
    ),
)

HTTP = Row(
    "HTTP",
    (
        Graph(
            "Requests by status",
            "Of the gateway, the ledger's API and the notifier's.",
            (Query(rate("purser_http_requests_total", f'job=~"{JOBS}"', by="job, status"), "{{job}}, {{status}}"),),
            unit="reqps",
            stacked=True,
        ),
        Graph(
            "The gateway's answers",
            "How long they take, health checks left out. A request with `wait=` or `Prefer: wait` takes as long as it "
            "asked to wait.",
            spread("purser_http_request_duration_seconds", 'job="gateway",route!~"/(healthz|readyz)"'),
            unit="s",
        ),
        Graph(
            "p95 by route",
            "The slowest ten of those that were asked for.",
            (
                Query(
                    f"topk(10, {quantile(0.95, 'purser_http_request_duration_seconds', by='job, route')} >= 0)",
                    "{{job}} {{route}}",
                ),
            ),
            unit="s",
        ),
    ),
)

BROKER = Row(
    "The broker",
    (
        Graph(
            "In the queues",
            "Messages by queue, each with many events' ids; and those that a worker has and has not acknowledged.",
            (
                Query(told_once("purser_queue_messages", by="queue"), "{{queue}}"),
                Query("max(purser_broker_unacknowledged_messages)", "unacknowledged"),
            ),
        ),
        Graph(
            "Handed over",
            "Events by consumer, and hand-overs that failed by cause.",
            (
                Query(rate("purser_handed_over_total", by="consumer"), "{{consumer}}"),
                Query(rate("purser_handovers_failed_total", by="cause"), "failed: {{cause}}"),
            ),
            unit="ops",
        ),
        Graph(
            "Memory",
            "Redis refuses writes when it is full; Purser then waits, and loses nothing.",
            (
                Query("max(purser_broker_memory_bytes)", "used"),
                Query("max(purser_broker_memory_max_bytes) > 0", "may use"),
            ),
            unit="bytes",
            nothing="not told by this broker",
        ),
    ),
)

MACHINES = Row(
    "Processes",
    (
        Graph(
            "CPU",
            "Cores in use, by process.",
            (Query(rate("process_cpu_seconds_total", f'job=~"{JOBS}"', by="job"), "{{job}}"),),
            unit="none",
            stacked=True,
        ),
        Graph(
            "Memory",
            "Resident, by process.",
            (Query(f'sum by (job) (process_resident_memory_bytes{{job=~"{JOBS}"}})', "{{job}}"),),
            unit="bytes",
            stacked=True,
        ),
        Graph(
            "Running",
            "How many of each, by version.",
            (Query("count by (job, version) (purser_build_info)", "{{job}} {{version}}"),),
        ),
    ),
)

ROWS = (WELL, ROAD, STORE, LEDGER, WEBHOOKS, HTTP, BROKER, MACHINES)
