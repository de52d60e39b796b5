"""docs/webhooks.md is true: its receivers are the tested ones, its bodies what is posted, its numbers in force."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from notifier.domain.deliveries import BODY_BYTES_MAX, RETRY_AFTER_S_MAX, RETRY_DELAYS_S
from notifier.domain.endpoints import FAILING_MAX, FAILURES_MIN, SECRET_BYTES_MAX, SECRET_BYTES_MIN, endpoint_problems
from notifier.domain.lanes import ASKED_PAUSE_S_MAX, FAILURES_TOLERATED, PAUSE_S_MAX
from notifier.sending import JITTER_MAX
from notifier.settings import WebhooksSettings
from shared.apps import WebhookEndpoint, parse_apps
from shared.events import OUTWARD, outward_document
from tests.support.backends import JAVASCRIPT, LANGUAGES, PYTHON
from tests.support.outward import EVENTS

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")
EXAMPLE: Final = (ROOT / "deploy" / "examples" / "apps.toml").read_text(encoding="utf-8")
APP: Final = '[[apps]]\nid = "game"\nname = "Game"\n[apps.apple]\nbundle_id = "com.example.game"\n'
SECRET: Final = "whsec_" + "QUJD" * 8
LINES_MAX: Final = 30


def blocks(language: str) -> list[str]:
    """The code of the page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    """What stands below a heading."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert found is not None, f"the page has no {title!r}"
    return found[1]


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(("language", "path"), list(zip(LANGUAGES, (PYTHON, JAVASCRIPT), strict=True)))
def test_the_receiver_on_the_page_is_the_file_and_has_no_more_than_thirty_lines(language: str, path: Path) -> None:
    code = path.read_text(encoding="utf-8")
    assert blocks(language) == [code]
    assert len(code.splitlines()) <= LINES_MAX


@pytest.mark.parametrize("event_type", OUTWARD)
def test_the_body_of_each_message_is_what_is_posted(event_type: str) -> None:
    (body,) = re.findall(r"^```json\n(.*?)^```$", section(f"`{event_type}`"), flags=re.MULTILINE | re.DOTALL)
    posted: Any = json.loads(msgspec.json.encode(outward_document(EVENTS[event_type])))
    assert json.loads(body) == posted


def test_the_page_has_no_message_that_is_not_posted() -> None:
    assert set(re.findall(r"^### `(.+)`$", PAGE, flags=re.MULTILINE)) == set(OUTWARD)


def test_the_endpoints_on_the_page_are_good_in_production() -> None:
    (tables,) = blocks("toml")
    apps = parse_apps(APP + tables.replace("whsec_…", SECRET))
    assert len(apps.by_id["game"].webhooks) == 2  # type: ignore[index]
    assert endpoint_problems(apps, production=True) == []


def test_the_table_of_fields_has_each_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section("Saying where"), flags=re.MULTILINE))
    assert set(rows) == set(WebhookEndpoint.model_fields)
    assert rows["calls_at_once"] == f"`{WebhookEndpoint.model_fields['calls_at_once'].default}`"
    assert rows["events"] == f"`{json.dumps(sorted(WebhookEndpoint.model_fields['events'].default))}`"


def test_the_example_file_names_each_field_and_can_be_used_with_all_of_them() -> None:
    asked_for = EXAMPLE.replace("whsec_…", SECRET).partition("[[apps.webhooks]]")[2]
    table = re.sub(r"^# (\w+ = )", r"\1", asked_for, flags=re.MULTILINE)
    assert set(re.findall(r"^(\w+) = ", table, flags=re.MULTILINE)) == set(WebhookEndpoint.model_fields)
    (endpoint,) = parse_apps(f"{APP}[[apps.webhooks]]{table}").by_id["game"].webhooks  # type: ignore[index]
    assert endpoint.secrets == (endpoint.secret, SECRET)


def test_the_schedule_on_the_page_is_the_one_in_force() -> None:
    units = {"s": 1, "min": 60, "h": 3600}
    (line,) = re.findall(r"^(\d+ s, .*)$", section("When it is not taken"), flags=re.MULTILINE)
    told = [int(number) * units[unit] for number, unit in re.findall(r"(\d+) (\w+)", line)]
    assert tuple(told) == RETRY_DELAYS_S
    assert f"({len(RETRY_DELAYS_S) + 1:d} attempts" in words(PAGE).replace("(ten ", "(10 ")
    assert 3 < sum(RETRY_DELAYS_S) / 86_400 < 3.25  # "a little over three days"
    assert JITTER_MAX == 1.2  # "up to a fifth longer"


def test_the_numbers_in_the_prose_are_those_in_force() -> None:
    prose = words(PAGE)
    defaults = {name: field.default for name, field in WebhooksSettings.model_fields.items()}
    for said in (
        f"at most {BODY_BYTES_MAX // 1024} KiB",
        f"within {defaults['webhook_timeout_s']:g} seconds",
        f"on record for {defaults['webhook_kept_days']} days",
        f"taken nothing for {FAILING_MAX.days} days**, over at least {FAILURES_MIN} attempts",
        f"{SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random bytes",
    ):
        assert said in prose
    assert (FAILURES_TOLERATED, PAUSE_S_MAX) == (5, 60)
    assert "after five failures in a row, with pauses of up to a minute" in prose
    assert (ASKED_PAUSE_S_MAX, RETRY_AFTER_S_MAX) == (3600, 86_400)
    assert "an hour at most, and this message not before then, a day at most" in prose
