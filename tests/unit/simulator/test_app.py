"""The wiring: from the environment to a store that sells."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from simulator.app import Simulator, build, create_app
from simulator.certificates import root_file
from tests.support.notification_receiver import receiver
from tests.support.shop import GEMS, apples_verifier, claims, example_apps, example_catalog

EXAMPLES = Path(__file__).parents[3] / "deploy" / "examples"


@pytest.fixture(autouse=True)
def an_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURSER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PURSER_APPS_FILE", str(EXAMPLES / "apps.toml"))
    monkeypatch.setenv("PURSER_CATALOG_FILE", str(EXAMPLES / "catalog.toml"))


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


def test_a_missing_catalogue_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PURSER_CATALOG_FILE", str(tmp_path / "none.toml"))
    with pytest.raises(SystemExit):
        create_app()
    assert "none.toml" in capsys.readouterr().err
