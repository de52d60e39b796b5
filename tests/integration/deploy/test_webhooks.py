"""`purser webhooks`, and what the timeline and the doctor say of webhooks, on a real database with a real receiver."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from deploy import cli
from deploy.doctor.telling import check_telling
from shared.apps import load_apps
from shared.clock import SystemClock
from shared.database import connect_engine
from shared.events import WebhookEndpointDisabled, WebhookEndpointEnabled
from tests.support.notifier import CREDITED, SECRET, Notifier, apps_text, endpoint, notifying
from tests.support.receiver import Receiver, Reply, receiving

GIVEN_UP: dict[str, Any] = {"retry_delays_s": [0.01]}
REFUSED = Reply(503, body=b"[closed] for today")
HOSTILE = Reply(503, body=b"\x1b[2Jnone\n  of your business")

Run = Callable[..., str]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(SECRET) as running:
        yield running


@pytest.fixture
def apps_file(tmp_path: Path, receiver: Receiver) -> Path:
    """The app `game` with one endpoint, `backend`, that gives up after two attempts."""
    file = tmp_path / "apps.toml"
    file.write_text(apps_text(endpoint(receiver.url, **GIVEN_UP)), encoding="utf-8")
    return file


@pytest.fixture
def notifier(database: str, apps_file: Path) -> Iterator[Notifier]:
    with notifying(database, load_apps(apps_file)) as running:
        yield running


@pytest.fixture
def purser(
    database: str, apps_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command line with the exit code that is expected; what it prints."""
    monkeypatch.setenv("PURSER_DATABASE_URL", database)
    monkeypatch.setenv("PURSER_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("PURSER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PURSER_APPS_FILE", str(apps_file))

    def run(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()  # what a sender logged before
        assert cli.run(list(arguments)) == code
        printed = capsys.readouterr()
        return printed.out + (printed.err if code else "")

    return run


def told(notifier: Notifier, state: str) -> str:
    """An event that a sender told the endpoint of until its delivery came to this state; its id."""
    before = notifier.states()["backend", state]
    with notifier.sending():
        (event_id,) = notifier.tell(CREDITED)
        notifier.settled(state, before + 1)
    return str(event_id)


def table(printed: str) -> list[list[str]]:
    """The rows of a table, without its head."""
    return [row.split() for row in printed.splitlines()[1:]]


def test_endpoints_that_take_everything_are_well(notifier: Notifier, purser: Run, receiver: Receiver) -> None:
    told(notifier, "delivered")
    (row,) = table(purser("webhooks", "endpoints"))
    assert row[:5] == ["backend", f"127.0.0.1:{receiver.port}", "*", "on", "0"]


def test_an_endpoint_that_failed_is_not_well_and_says_since_when(
    notifier: Notifier, purser: Run, receiver: Receiver
) -> None:
    receiver.reply_next(REFUSED, REFUSED)
    told(notifier, "exhausted")
    assert re.search(r"failing .* 2 failures since 20\d\d-", purser("webhooks", "endpoints", code=1))
    (view,) = json.loads(purser("webhooks", "endpoints", "--json", code=1))
    assert (view["state"], view["failures"], view["failed"]) == ("failing", 2, 1)
    assert "hooks" not in json.dumps(view)  # of its URL only the host is shown


def test_deliveries_are_listed_the_newest_first_and_by_state(
    notifier: Notifier, purser: Run, receiver: Receiver
) -> None:
    receiver.reply_next(REFUSED, REFUSED)
    given_up, taken = told(notifier, "exhausted"), told(notifier, "delivered")
    assert [row[0] for row in table(purser("webhooks", "list"))] == [taken, given_up]
    (row,) = json.loads(purser("webhooks", "list", "--state", "exhausted", "--endpoint", "backend", "--json"))
    assert (row["event_id"], row["attempts"], row["last_status"]) == (given_up, 2, 503)
    assert len(table(purser("webhooks", "list", "--limit", "1"))) == 1
    assert purser("webhooks", "list", "--state", "parked") == "there are none\n"


def test_one_event_is_shown_with_its_message_and_each_attempt(
    notifier: Notifier, purser: Run, receiver: Receiver
) -> None:
    receiver.reply_next(REFUSED)
    event_id = told(notifier, "delivered")
    shown = purser("webhooks", "show", event_id)
    assert '"type": "wallet.credited"' in shown
    assert "answered 503" in shown
    assert "[closed] for today" in shown
    document = json.loads(purser("webhooks", "show", event_id, "--json"))
    assert document["message"] == receiver.received[0].body
    (delivery,) = document["deliveries"]
    assert [attempt["status"] for attempt in delivery["attempt_list"]] == [503, 200]
    assert "there is nothing to be told" in purser("webhooks", "show", "0" * 32, code=1)


def test_what_is_resent_arrives_again_with_the_same_id(notifier: Notifier, purser: Run, receiver: Receiver) -> None:
    event_id = told(notifier, "delivered")
    assert purser("webhooks", "resend", event_id) == "1 due again\n"
    with notifier.sending():
        notifier.settled("delivered", 1)
    assert [each.id for each in receiver.received] == [event_id] * 2
    unknown = "00000000-0000-7000-8000-000000000000"
    said = purser("webhooks", "resend", unknown, event_id, "--endpoint", "backend", code=1)
    assert said.startswith("1 due again\n")
    assert f"there is no delivery of {unknown} to 'backend'" in said


def test_an_unknown_endpoint_is_named_with_those_that_there_are(notifier: Notifier, purser: Run) -> None:
    for arguments in (
        ("test", "nobody"),
        ("enable", "nobody"),
        ("disable", "nobody", "--reason", "none"),
        ("replay", "nobody", "--since", "1h"),
        ("resend", "0" * 32, "--endpoint", "nobody"),
        ("list", "--endpoint", "nobody"),
    ):
        assert "app 'game' has no webhook 'nobody'; there are: backend" in purser("webhooks", *arguments, code=1)
    assert "there is no app 'none'" in purser("webhooks", "endpoints", "--app", "none", code=1)


def test_a_replay_queues_what_was_not_taken_and_with_delivered_everything(
    notifier: Notifier, purser: Run, receiver: Receiver
) -> None:
    receiver.reply_next(REFUSED, REFUSED)
    told(notifier, "exhausted")
    told(notifier, "delivered")
    assert purser("webhooks", "replay", "backend", "--since", "1h") == "1 due, of 2 events of that time\n"
    assert json.loads(purser("webhooks", "replay", "backend", "--since", "1h", "--delivered", "--json")) == {
        "queued": 2,
        "looked_at": 2,
    }
    assert (
        purser("webhooks", "replay", "backend", "--since", "2h", "--until", "1h") == "0 due, of 0 events of that time\n"
    )


def test_a_replay_that_ends_before_it_begins_is_refused(notifier: Notifier, purser: Run) -> None:
    refused = purser("webhooks", "replay", "backend", "--since", "1h", "--until", "2h", code=2)
    assert "--until: it is before --since" in refused


def test_a_test_says_what_came_back_and_fails_unless_it_was_taken(
    notifier: Notifier, purser: Run, receiver: Receiver
) -> None:
    assert re.fullmatch(r"taken: 200, in \d+ ms\n", purser("webhooks", "test", "backend"))
    assert (receiver.received[0].genuine, receiver.received[0].body["type"]) == (True, "webhook.test")
    receiver.reply_next(REFUSED, REFUSED)
    refused = purser("webhooks", "test", "backend", code=1)
    assert re.fullmatch(r"not taken: answered 503, in \d+ ms: \[closed\] for today\n", refused)
    trial = json.loads(purser("webhooks", "test", "backend", "--json", code=1))
    assert (trial["taken"], trial["status"], trial["answer"]) == (False, 503, "[closed] for today")
    receiver.reply_next(HOSTILE)
    assert purser("webhooks", "test", "backend", code=1).endswith(": \\x1b[2Jnone\\n  of your business\n")


def test_an_endpoint_is_disabled_and_enabled_by_the_operator(
    notifier: Notifier, purser: Run, receiver: Receiver
) -> None:
    assert purser("webhooks", "disable", "backend", "--reason", "it moves") == "backend is disabled: it moves\n"
    (event_id,) = notifier.tell(CREDITED)
    assert "it moves" in purser("webhooks", "endpoints", code=1)
    with notifier.sending() as sender:
        assert sender.send_due() == 0
    assert json.loads(purser("webhooks", "enable", "backend", "--json"))["state"] == "on"
    with notifier.sending():
        notifier.settled("delivered", 1)
    assert [each.id for each in receiver.received] == [str(event_id)]
    (disabled,), (enabled,) = notifier.events(WebhookEndpointDisabled), notifier.events(WebhookEndpointEnabled)
    assert (disabled.payload.actor, enabled.payload.actor) == ("operator", "operator")


def test_what_is_queued_for_a_disabled_endpoint_is_said_to_wait(
    notifier: Notifier, purser: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (event_id,) = notifier.tell(CREDITED)
    purser("webhooks", "disable", "backend", "--reason", "it moves")
    assert cli.run(["webhooks", "resend", str(event_id)]) == 0
    assert "disabled, so what is for it waits: backend" in capsys.readouterr().err


def test_an_endpoint_is_retired_and_all_is_well_then(
    notifier: Notifier, purser: Run, receiver: Receiver, apps_file: Path
) -> None:
    notifier.tell(CREDITED, CREDITED)
    kept = endpoint(receiver.url, id="kept", **GIVEN_UP)
    refused = purser("webhooks", "drop", "backend", "--yes", code=1)
    assert "disable it first (purser webhooks disable backend)" in refused
    apps_file.write_text(apps_text(kept), encoding="utf-8")
    purser("webhooks", "endpoints", code=1)
    assert purser("webhooks", "drop", "backend", "--yes") == "2 dropped\n"
    purser("webhooks", "endpoints")
    assert "there are: kept" in purser("webhooks", "drop", "nobody", "--yes", code=1)


def test_what_was_given_up_is_acknowledged_of_an_endpoint_that_is_told(
    notifier: Notifier, purser: Run, receiver: Receiver
) -> None:
    receiver.reply_next(REFUSED, REFUSED)
    told(notifier, "exhausted")
    told(notifier, "delivered")
    purser("webhooks", "endpoints", code=1)
    drop = ("webhooks", "drop", "backend", "--state", "exhausted", "--state", "parked", "--yes")
    assert json.loads(purser(*drop, "--json")) == {"dropped": 1}
    purser("webhooks", "endpoints")


def test_nothing_is_dropped_without_a_yes(notifier: Notifier, purser: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    notifier.tell(CREDITED)
    purser("webhooks", "disable", "backend", "--reason", "it goes")
    monkeypatch.setattr("sys.stdin", StringIO("n\n"))
    purser("webhooks", "drop", "backend", code=130)
    assert notifier.states() == {("backend", "waiting"): 1}


def test_a_new_secret_is_one_that_the_standards_library_signs_with(purser: Run) -> None:
    first, second = purser("webhooks", "secret").strip(), json.loads(purser("webhooks", "secret", "--json"))["secret"]
    assert first != second
    for secret in (first, second):
        Webhook(secret)
        assert len(b64decode(secret.removeprefix("whsec_"))) == 32


def test_the_timeline_shows_the_webhooks_that_were_not_taken(
    notifier: Notifier, purser: Run, receiver: Receiver
) -> None:
    told(notifier, "delivered")
    receiver.reply_next(REFUSED, REFUSED)
    told(notifier, "exhausted")
    notifier.tell(CREDITED)
    lines = json.loads(purser("timeline", "pur_1", "--json"))["events"]
    still_to = [line["still_to"] for line in lines if line["type"] == "wallet.credited"]
    assert still_to[0] == ""
    assert still_to[1].startswith("webhook backend (exhausted, 2 attempts: not taken in 2 attempts")
    assert still_to[2] == "webhook backend (waiting, 0 attempts)"
    (taken,) = [line["says"] for line in lines if line["type"] == "webhook.delivered"]
    assert taken == "backend, attempt 1"
    (given_up,) = [line["says"] for line in lines if line["type"] == "webhook.exhausted"]
    assert given_up.startswith("backend: not taken in 2 attempts")


def test_the_timeline_says_what_has_to_happen_before_a_webhook_is_tried_again(
    notifier: Notifier, purser: Run, apps_file: Path
) -> None:
    def still_to() -> str:
        (line,) = json.loads(purser("timeline", "pur_1", "--json"))["events"]
        return str(line["still_to"])

    notifier.tell(CREDITED)
    notifier.rows("update notifier.delivery set attempts = 3")
    assert re.fullmatch(r"webhook backend \(waiting, 3 attempts, again at .*\)", still_to())
    purser("webhooks", "disable", "backend", "--reason", "it moves")
    assert still_to() == "webhook backend (waiting, 3 attempts, when endpoint backend is enabled)"
    apps_file.write_text(apps_text(), encoding="utf-8")
    assert still_to() == "webhook backend (waiting, 3 attempts, when endpoint backend is in the apps file again)"
    apps_file.unlink()
    assert "again at" in still_to()


class TestDoctor:
    """What the doctor says of it."""

    @pytest.fixture
    def said(self, database: str, apps_file: Path) -> Callable[[], dict[str, tuple[str, str]]]:
        def check() -> dict[str, tuple[str, str]]:
            found = check_telling(load_apps(apps_file), database_url=database, clock=SystemClock())
            return {each.check: (each.outcome, each.found) for each in found}

        return check

    def test_without_a_process_nobody_is_told(self, said: Callable[[], Any]) -> None:
        assert said()["webhook deliveries"][0] == "failed"

    def test_what_is_given_up_is_a_warning_and_a_process_that_is_connected_is_seen(
        self, notifier: Notifier, receiver: Receiver, said: Callable[[], Any]
    ) -> None:
        engine = connect_engine(notifier.database_url, role=None, pool_size=1, application_name="webhooks")
        with engine.connect():
            assert said() == {"webhook deliveries": ("ok", "0 wait")}
            receiver.reply_next(REFUSED, REFUSED)
            told(notifier, "exhausted")
            assert said() == {"webhook deliveries game/backend": ("warning", "1 were given up")}
        engine.dispose()

    def test_without_webhooks_there_is_nothing_to_check(self, apps_file: Path, said: Callable[[], Any]) -> None:
        apps_file.write_text(apps_text(), encoding="utf-8")
        assert said() == {"webhook deliveries": ("unchecked", "no app has webhooks")}

    def test_a_database_that_is_away_says_nothing(self, apps_file: Path) -> None:
        url = "postgresql://nobody@127.0.0.1:1/none"
        (finding,) = check_telling(load_apps(apps_file), database_url=url, clock=SystemClock())
        assert finding.outcome == "unchecked"
