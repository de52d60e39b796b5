"""Who is to hear of what, when an endpoint is given up, and what is wrong with a configuration."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from notifier.domain.endpoints import (
    FAILING_MAX,
    FAILURES_MIN,
    EndpointKey,
    Failing,
    configured_endpoints,
    endpoint_problems,
    endpoints_for,
)
from shared.apps import Apps, EndpointId, parse_apps
from shared.ids import AppId
from tests.support.notifier import SECRET, apps_text, apps_with, endpoint

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
URL = "https://backend.example/hooks"
BACKEND = EndpointKey(AppId("game"), EndpointId("backend"))


class TestWhoIsToHear:
    APPS = parse_apps(
        apps_text(
            endpoint(URL, id="all"),
            endpoint(URL, id="wallets", events=["wallet.*"]),
            endpoint(URL, id="refunds", events=["purchase.refunded", "refund_request.updated"]),
        )
        + apps_text(endpoint(URL, id="elsewhere"), app="other")
    )

    def wanting(self, event_type: str, *, app: str = "game") -> list[str]:
        return [each.id for each in endpoints_for(self.APPS, app=AppId(app), event_type=event_type)]

    def test_every_endpoint_of_the_app_that_names_the_type_its_group_or_all(self) -> None:
        assert self.wanting("wallet.credited") == ["all", "wallets"]
        assert self.wanting("purchase.refunded") == ["all", "refunds"]
        assert self.wanting("purchase.refund_reversed") == ["all"]

    def test_another_apps_endpoints_hear_of_their_own_app_alone(self) -> None:
        assert self.wanting("wallet.credited", app="other") == ["elsewhere"]
        assert self.wanting("wallet.credited", app="unheard-of") == []

    def test_each_endpoint_is_known_by_its_app_and_its_id(self) -> None:
        assert {str(key) for key in configured_endpoints(self.APPS)} == {
            "game/all",
            "game/wallets",
            "game/refunds",
            "other/elsewhere",
        }


class TestWhenItIsGivenUp:
    @pytest.mark.parametrize(
        ("failing_for", "failures", "given_up"),
        [
            (FAILING_MAX, FAILURES_MIN, True),
            (FAILING_MAX - timedelta(seconds=1), 100_000, False),
            (timedelta(days=400), FAILURES_MIN - 1, False),
        ],
    )
    def test_after_five_days_without_anything_taken_and_ten_failures_and_not_before(
        self, failing_for: timedelta, failures: int, given_up: bool
    ) -> None:
        assert (timedelta(days=5), 10) == (FAILING_MAX, FAILURES_MIN)
        assert Failing(BACKEND, since=NOW - failing_for, failures=failures).is_given_up(now=NOW) is given_up


class TestProblems:
    @staticmethod
    def of(apps: Apps, *, production: bool = False) -> list[str]:
        return endpoint_problems(apps, production=production)

    def test_https_and_secrets_of_ones_own_are_fit_for_production(self) -> None:
        apps = apps_with(endpoint(URL, previous_secret="whsec_" + "REVG" * 8))
        assert self.of(apps, production=True) == []

    def test_plain_http_is_refused_in_production_only(self) -> None:
        apps = apps_with(endpoint("http://127.0.0.1:8091/hooks"))
        assert self.of(apps) == []
        assert any("url has to be https://… in production" in each for each in self.of(apps, production=True))

    @pytest.mark.parametrize(
        "url", ["", "backend.example/hooks", "ftp://backend.example/", "https://", "http://[::1", "http://h:99999/"]
    )
    def test_what_is_no_url_is_refused(self, url: str) -> None:
        assert self.of(apps_with(endpoint(url))) == [
            "app 'game': webhook 'backend': url has to be http(s)://host[:port]/path"
        ]

    @pytest.mark.parametrize(
        "secret", ["", "QUJD" * 8, "whsec_", "whsec_QUJD", "whsec_" + "*" * 32, "whsec_" + "QUJD" * 40, "whsec_ü" * 9]
    )
    @pytest.mark.parametrize("field", ["secret", "previous_secret"])
    def test_a_secret_that_is_no_secret_of_the_standard_is_refused_and_not_quoted(
        self, field: str, secret: str
    ) -> None:
        (problem,) = self.of(apps_with(endpoint(URL, **{field: secret})))
        assert problem == (
            f"app 'game': webhook 'backend': {field} has to be whsec_ and 24 to 64 random bytes in base64"
        )

    def test_each_endpoint_with_a_problem_is_named(self) -> None:
        apps = apps_with(
            endpoint("", id="first"), endpoint(URL, id="second"), endpoint(URL, id="third", secret=SECRET[:9])
        )
        assert [each.split("'")[3] for each in self.of(apps)] == ["first", "third"]
