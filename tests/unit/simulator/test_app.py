"""The wiring: from the environment to a store that sells."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import structlog
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from structlog.testing import LogCapture

from shared.settings import read
from simulator.agenda import Setting
from simulator.app import Simulator, build, build_from, create_app
from simulator.certificates import root_file
from simulator.settings import SimulatorSettings
from tests.support.notification_receiver import receiver
from tests.support.shop import GEMS, apples_verifier, claims, example_apps, example_catalog

EXAMPLES = Path(__file__).parents[3] / "deploy" / "examples"


@pytest.fixture(autouse=True)
def an_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURSER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PURSER_APPS_FILE", str(EXAMPLES / "apps.toml"))
    monkeypatch.setenv("PURSER_CATALOG_FILE", str(EXAMPLES / "catalog.toml"))
    monkeypatch.setattr("simulator.app.configure_logging", lambda **_: None)  # it is for a whole process


def test_the_store_sells_the_example_catalogue_and_notifies_the_url_of_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with receiver() as hook:
        monkeypatch.setenv("PURSER_SIMULATOR_WEBHOOK_URL", hook.url)
        client = create_app().test_client()
        sold = client.post("/_sim/purchases", json={"product_id": "com.example.game.gems100"}).get_json()
        (payload,) = hook.wait_for_posts(1)
    assert claims(payload["data"]["signedTransactionInfo"])["transactionId"] == sold["transaction_id"]


def test_after_a_restart_the_root_on_disk_still_verifies_what_is_signed(tmp_path: Path) -> None:
    with started(tmp_path) as first:
        root = root_file(tmp_path).read_bytes()
        before = first.store.buy(product_id=GEMS, notify=False)
    with started(tmp_path) as second:
        after = second.store.buy(product_id=GEMS, notify=False)
    assert root_file(tmp_path).read_bytes() == root
    apple = apples_verifier(load_pem_x509_certificate(root).public_bytes(Encoding.DER))
    ids = [
        apple.verify_and_decode_signed_transaction(each.signed_transaction).transactionId for each in (before, after)
    ]
    assert ids == [before.transaction.transaction_id, after.transaction.transaction_id]
    assert ids[0] != ids[1]


def test_after_a_restart_a_receipt_of_before_is_answered(tmp_path: Path) -> None:
    with started(tmp_path) as first:
        bought = first.store.buy(product_id=GEMS, notify=False)
    with started(tmp_path) as second:
        answer = second.store.verify_receipt(
            receipt_data=bought.receipt, password=None, exclude_old=False, asked="production"
        )
    assert [row["transaction_id"] for row in answer["receipt"]["in_app"]] == [bought.transaction.transaction_id]


def started(data_dir: Path) -> closing[Simulator]:
    """A store that knows nothing but its directory."""
    return closing(
        build(data_dir=data_dir, apps=example_apps(), catalog=example_catalog(), webhook_url="http://127.0.0.1:9/")
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PURSER_PRODUCTION", "1"),
        ("PURSER_SIMULATOR_RETRY_COMPRESSION", "0"),
        ("PURSER_SIMULATOR_WEBHOOK_URL", "nowhere"),
        ("PURSER_SIMULATOR_PORT", "70000"),
        ("PURSER_DATA_DIR", "/dev/null/purser"),
        ("PURSER_SIMULATOR_URL", "here"),
        ("PURSER_SIMULATOR_MONTH_S", "0"),
        ("PURSER_SIMULATOR_NOTIFICATIONS_KEPT", "0"),
    ],
)
def test_a_bad_setting_ends_the_process_with_a_sentence_that_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        create_app()
    assert ended.value.code == 2
    assert name in capsys.readouterr().err


@pytest.mark.parametrize(("given", "running"), [(None, False), ("60", True)])
def test_subscriptions_live_by_themselves_when_a_month_is_given(
    monkeypatch: pytest.MonkeyPatch, given: str | None, running: bool
) -> None:
    if given is not None:
        monkeypatch.setenv("PURSER_SIMULATOR_MONTH_S", given)
    with closing(build_from(read(SimulatorSettings))) as simulator:
        assert simulator.agenda.setting == Setting(month_s=60 if running else None, running=running)


def test_a_missing_catalogue_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PURSER_CATALOG_FILE", str(tmp_path / "none.toml"))
    with pytest.raises(SystemExit):
        create_app()
    assert "none.toml" in capsys.readouterr().err


def test_a_missing_key_of_the_server_api_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "apps.toml").write_text((EXAMPLES / "apps.toml").read_text())
    monkeypatch.setenv("PURSER_APPS_FILE", str(tmp_path / "apps.toml"))
    with pytest.raises(SystemExit):
        create_app()
    assert f"{tmp_path}/AuthKey_EXAMPLE.p8: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "named"),
    [(None, "http://127.0.0.1:8090/ocsp"), ("https://store.example/", "https://store.example/ocsp")],
)
def test_new_certificates_name_the_address_of_the_settings_for_ocsp(
    monkeypatch: pytest.MonkeyPatch, given: str | None, named: str
) -> None:
    if given is not None:
        monkeypatch.setenv("PURSER_SIMULATOR_URL", given)
    with closing(build_from(read(SimulatorSettings))) as simulator:
        assert simulator.authority.ocsp_url == named


def test_certificates_that_name_another_address_are_kept_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    captured = LogCapture()
    monkeypatch.setattr("simulator.app.log", structlog.wrap_logger(None, processors=[captured]))
    with closing(build_from(read(SimulatorSettings))) as first:
        root = first.authority.root_pem
    assert captured.entries == []
    monkeypatch.setenv("PURSER_SIMULATOR_URL", "http://elsewhere.example")
    with closing(build_from(read(SimulatorSettings))) as second:
        assert second.authority.root_pem == root
    (said,) = captured.entries
    assert (said["named"], said["here"]) == ("http://127.0.0.1:8090/ocsp", "http://elsewhere.example/ocsp")
