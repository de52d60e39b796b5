"""The apps file: read whole, and refused with a sentence that names what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.apps import ApiKey, AppsInvalid, WebhookEndpoint, load_apps, parse_apps
from shared.events import OUTWARD
from shared.ids import AppId

EXAMPLE = Path("deploy/examples/apps.toml")
ENDPOINT = """
[[apps.webhooks]]
id = "backend"
url = "http://127.0.0.1:8091/hooks"
secret = "whsec_c2VjcmV0"
"""


def app(*, id: str = "game", bundle_id: str = "com.example.game", more: str = "") -> str:
    return f"""
[[apps]]
id = "{id}"
name = "A game"
[apps.apple]
bundle_id = "{bundle_id}"
{more}
"""


def server_key(digit: str) -> str:
    return f'[[apps.server_keys]]\nid = "backend"\nsha256 = "{digit * 64}"\nscopes = ["read"]\n'


def tokens(text: str) -> str:
    return app(more=f"[apps.client_tokens]\n{text}")


class TestTheExample:
    def test_it_is_read(self) -> None:
        game = load_apps(EXAMPLE).by_id[AppId("game")]
        assert (game.apple.bundle_id, game.apple.app_apple_id) == ("com.example.game", 1234567890)
        assert (game.apple.sandbox, game.wallet.debt, game.wallet.client_may_spend) == ("separate", "negative", False)
        assert game.server_keys[0].scopes == {"read", "spend", "grant", "admin"}
        assert game.webhooks[0].wants("purchase.completed")

    def test_it_is_shown_without_a_secret_of_it(self) -> None:
        apps = load_apps(EXAMPLE)
        (game,) = apps
        assert game.client_tokens is not None
        (endpoint,) = game.webhooks
        secrets = (game.client_tokens.key, game.apple.shared_secret, endpoint.secret, endpoint.url)
        assert [secret for secret in secrets if secret is None or secret in repr(apps)] == []

    def test_an_app_is_found_by_its_bundle_id_too(self) -> None:
        apps = load_apps(EXAMPLE)
        assert [apps.by_bundle_id[each.apple.bundle_id] for each in apps] == list(apps)


class TestTheKeyOfTheServerApi:
    KEY = ('issuer_id = "issuer"', 'key_id = "key"', 'private_key_file = "keys/AuthKey.p8"')

    def test_an_app_without_one_has_none(self) -> None:
        (game,) = parse_apps(app())
        assert game.apple.api_key is None

    def test_it_is_all_of_its_three_fields(self) -> None:
        (game,) = parse_apps(app(more="\n".join(self.KEY)), directory=Path("/etc/purser"))
        key = game.apple.api_key
        assert key == ApiKey(issuer_id="issuer", key_id="key", private_key_file=Path("/etc/purser/keys/AuthKey.p8"))

    @pytest.mark.parametrize("left_out", range(3))
    def test_a_part_of_it_is_refused_and_what_is_missing_named(self, left_out: int) -> None:
        rest = [line for place, line in enumerate(self.KEY) if place != left_out]
        missing = self.KEY[left_out].partition(" ")[0]
        with pytest.raises(AppsInvalid, match=f"app 'game': apple.{missing} is missing"):
            parse_apps(app(more="\n".join(rest)))
        with pytest.raises(AppsInvalid, match="is missing"):
            parse_apps(app(more=self.KEY[left_out]))


class TestFilesThatAreNamed:
    TEXT = tokens('algorithm = "RS256"\npublic_key_file = "login.pem"')

    @staticmethod
    def file(text: str, **where: Path) -> Path | None:
        (game,) = parse_apps(text, **where)
        assert game.client_tokens is not None
        return game.client_tokens.public_key_file

    def test_they_lie_beside_the_apps_file_wherever_the_process_was_started(self, tmp_path: Path) -> None:
        assert self.file(self.TEXT, directory=Path("/etc/purser")) == Path("/etc/purser/login.pem")
        (tmp_path / "apps.toml").write_text(self.TEXT)
        (game,) = load_apps(tmp_path / "apps.toml")
        assert game.client_tokens is not None
        assert game.client_tokens.public_key_file == tmp_path / "login.pem"

    def test_an_absolute_one_is_where_it_says(self) -> None:
        text = self.TEXT.replace("login.pem", "/run/secrets/login.pem")
        assert self.file(text, directory=Path("/etc/purser")) == Path("/run/secrets/login.pem")

    def test_those_of_a_text_alone_are_where_the_process_was_started(self) -> None:
        assert self.file(self.TEXT) == Path("login.pem")


class TestClaimsByTransactionId:
    def test_they_need_the_users_account_token_unless_the_app_says_otherwise(self) -> None:
        (careful,) = parse_apps(app())
        (trusting,) = parse_apps(app(more='transaction_id_claims = "first_claimant"'))
        assert careful.apple.transaction_id_claims == "account_token"
        assert trusting.apple.transaction_id_claims == "first_claimant"

    def test_there_is_no_third_way(self) -> None:
        with pytest.raises(AppsInvalid, match=r"apps\.0\.apple\.transaction_id_claims"):
            parse_apps(app(more='transaction_id_claims = "anybody"'))


class TestDefaults:
    def test_an_app_needs_no_more_than_its_names(self) -> None:
        (game,) = parse_apps(app())
        assert (game.client_tokens, game.server_keys, game.webhooks) == (None, (), ())

    def test_a_webhook_without_a_list_of_events_wants_all_of_them(self) -> None:
        (game,) = parse_apps(app(more=ENDPOINT))
        assert game.webhooks[0].wants("wallet.credited")

    def test_a_webhook_with_a_list_of_events_wants_those_alone(self) -> None:
        (game,) = parse_apps(app(more=f'{ENDPOINT}events = ["wallet.credited"]'))
        endpoint: WebhookEndpoint = game.webhooks[0]
        assert endpoint.wants("wallet.credited")
        assert not endpoint.wants("wallet.debited")


def webhook(fields: str = "") -> WebhookEndpoint:
    """The endpoint of an app that has one, with these fields besides."""
    (game,) = parse_apps(app(more=f"{ENDPOINT}{fields}"))
    return game.webhooks[0]


class TestWebhooks:
    def test_a_group_of_events_is_all_whose_names_begin_so_and_no_others(self) -> None:
        endpoint = webhook('events = ["wallet.*", "purchase.refunded"]')
        wanted = {each for each in OUTWARD if endpoint.wants(each)}
        assert wanted == {"wallet.credited", "wallet.debited", "purchase.refunded"}

    def test_every_outward_event_may_be_named_by_itself_by_its_group_or_by_all(self) -> None:
        for event_type in OUTWARD:
            group = event_type.partition(".")[0] + ".*"
            for pattern in (event_type, group, "*"):
                assert webhook(f'events = ["{pattern}"]').wants(event_type)

    @pytest.mark.parametrize(
        "pattern",
        ["wallet", "wallet.", "wallet*", "wal.*", ".*", "**", "*.credited", "", "webhook.delivered", "webhook.*"],
    )
    def test_a_pattern_that_names_no_event_that_is_told_is_refused_and_named(self, pattern: str) -> None:
        with pytest.raises(AppsInvalid) as refused:
            webhook(f'events = ["{pattern}"]')
        assert f"webhook 'backend': there is no event {pattern!r} to be told" in str(refused.value)
        assert [each for each in OUTWARD if each not in str(refused.value)] == []

    def test_while_a_secret_is_replaced_the_one_that_stays_signs_first(self) -> None:
        assert webhook().secrets == ("whsec_c2VjcmV0",)
        assert webhook('previous_secret = "whsec_b2xk"').secrets == ("whsec_c2VjcmV0", "whsec_b2xk")

    def test_without_a_schedule_of_its_own_it_has_the_usual_one(self) -> None:
        assert webhook().retry_delays_s is None
        assert webhook("retry_delays_s = [1, 60.5, 604800]").retry_delays_s == (1, 60.5, 604800)

    @pytest.mark.parametrize("delays", ["[]", "[0]", "[-1]", "[604801]", "[inf]", "[nan]", str([1] * 33), '"5"'])
    def test_a_schedule_has_one_to_thirty_two_delays_of_a_week_at_most(self, delays: str) -> None:
        with pytest.raises(AppsInvalid, match=r"apps\.0\.webhooks\.0\.retry_delays_s"):
            webhook(f"retry_delays_s = {delays}")

    def test_it_is_called_sixteen_times_at_once_unless_it_says_otherwise(self) -> None:
        assert (webhook().calls_at_once, webhook("calls_at_once = 1").calls_at_once) == (16, 1)

    @pytest.mark.parametrize("calls", ["0", "65", "-1", "1.5"])
    def test_it_is_called_once_to_sixty_four_times_at_once(self, calls: str) -> None:
        with pytest.raises(AppsInvalid, match=r"apps\.0\.webhooks\.0\.calls_at_once"):
            webhook(f"calls_at_once = {calls}")

    @pytest.mark.parametrize("id", ["", "a/b", "../up", ".hidden", "a b", "é", "x" * 65, "a?b", "a%2f"])
    def test_its_id_is_fit_to_stand_in_a_path(self, id: str) -> None:
        with pytest.raises(AppsInvalid, match=r"apps\.0\.webhooks\.0\.id"):
            parse_apps(app(more=ENDPOINT.replace('"backend"', f'"{id}"')))

    def test_neither_its_url_nor_its_secrets_are_shown(self) -> None:
        shown = repr(webhook('previous_secret = "whsec_b2xk"'))
        assert "backend" in shown
        assert not any(hidden in shown for hidden in ("whsec_", "8091", "hooks"))


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("", "apps: Field required"),
            ("apps = []", "at least one"),
            ("[[apps]", "line 1"),
            ('[[apps]]\nid = "game"', "apps.0.name: Field required"),
            (app().replace("bundle_id", "bundle"), "apps.0.apple.bundle_id: Field required"),
            (app(more='colour = "red"'), "apps.0.apple.colour: Extra inputs are not permitted"),
            (app(more='sandbox = "maybe"'), "apps.0.apple.sandbox"),
            (app() + app(bundle_id="com.example.other"), "two apps have the id 'game'"),
            (app() + app(id="other"), "two apps have the apple.bundle_id 'com.example.game'"),
            (tokens('algorithm = "HS256"'), "app 'game': client_tokens needs `key`"),
            (tokens('algorithm = "HS256"\njwks_url = "https://a/jwks"'), "client_tokens needs `key`"),
            (tokens(f'algorithm = "RS256"\nkey = "{"k" * 32}"'), "`public_key_file` or `jwks_url`"),
            (tokens('algorithm = "ES256"\njwks_url = "x"\npublic_key_file = "y"'), "`public_key_file` or `jwks_url`"),
            (tokens('algorithm = "RS256"\njwks_url = "login.example.com/jwks"'), "jwks_url has to be http"),
            (tokens('algorithm = "none"\nkey = "x"'), "apps.0.client_tokens.algorithm"),
            (tokens(f'algorithm = "HS256"\nkey = "{"k" * 31}"'), "at least 32 characters"),
            (
                app(more='[[apps.server_keys]]\nid = "backend"\nsha256 = "ABC"\nscopes = ["read"]'),
                "server key 'backend': sha256 is 64 lower-case hexadecimal digits",
            ),
            (
                app(more=f'[[apps.server_keys]]\nid = "backend"\nsha256 = "{"a" * 64}"\nscopes = ["everything"]'),
                "apps.0.server_keys.0.scopes",
            ),
            (app(more=ENDPOINT * 2), "app 'game': two webhooks have the same id"),
            (app(more=server_key("a") + server_key("b")), "app 'game': two server keys have the same id"),
            (
                app(more=server_key("a")) + app(id="other", bundle_id="com.example.other", more=server_key("a")),
                f"two apps have the server key '{'a' * 64}'",
            ),
            (
                app(more=f'{ENDPOINT}events = ["*", "purchase.complete"]'),
                "app 'game': webhook 'backend': there is no event 'purchase.complete'",
            ),
            *((app(id=text), "apps.0.id: String should match") for text in ("", "игра", "a b", "x" * 129)),
        ],
    )
    def test_it_is_named(self, text: str, sentence: str) -> None:
        with pytest.raises(AppsInvalid) as refused:
            parse_apps(text)
        assert sentence in str(refused.value)

    @pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
    def test_public_keys_may_come_from_a_file_or_from_a_url(self, algorithm: str) -> None:
        for source in ('public_key_file = "key.pem"', 'jwks_url = "https://login.example.com/jwks"'):
            assert parse_apps(tokens(f'algorithm = "{algorithm}"\n{source}'))

    def test_a_secret_in_a_field_that_is_refused_is_not_repeated(self) -> None:
        with pytest.raises(AppsInvalid) as refused:
            parse_apps(tokens('algorithm = "HS256"\nkey = ["do-not-repeat-me"]'))
        assert "do-not-repeat-me" not in str(refused.value)

    def test_a_file_that_is_missing_or_wrong_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(AppsInvalid, match=r"nowhere\.toml: No such file"):
            load_apps(tmp_path / "nowhere.toml")
        (tmp_path / "apps.toml").write_text("apps = 1")
        with pytest.raises(AppsInvalid, match=r"apps\.toml: apps"):
            load_apps(tmp_path / "apps.toml")
