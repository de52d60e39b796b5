"""Revocation, asked of a real OCSP responder over HTTP, which answers well, badly, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import pytest
from cryptography.x509 import ocsp

from shared.clock import ManualClock, SystemClock, to_unix_ms
from shared.ids import system_ids
from shared.jws import (
    CertificateChain,
    JwsMalformed,
    JwsUnconfirmed,
    JwsUntrusted,
    JwsVerifier,
    TrustAnchors,
)
from simulator.certificates import create
from simulator.faults import FaultBoard, Faults, OcspFaults
from simulator.ocsp import OcspResponder
from tests.support.apple_pki import (
    INTERMEDIATE,
    LEAF,
    OCSP_RESPONDER,
    Chain,
    Issued,
    issue,
    ocsp_answer,
    with_signature,
)
from tests.support.stack import wait_until
from verifier.apple import ocsp as registry_module
from verifier.apple.ocsp import (
    ANSWER_BYTES_MAX,
    BACKOFF_S_MAX,
    BACKOFF_S_MIN,
    RETRY_AFTER_S_MIN,
    UNMET_S_MAX,
    OcspRegistry,
)
from verifier.apple.transport import Answer, Transport, store_session
from verifier.domain.ocsp import SKEW

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
LIFETIME = timedelta(hours=12)
READ_TIMEOUT_S = 0.3
LIMIT_S = 20

GOOD, REVOKED, UNKNOWN = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN
Behaviour = Callable[[BaseHTTPRequestHandler, bytes], None]


@dataclass
class Responder:
    """Answers for the certificates of a chain as their issuers; `behave` does something else with the answer."""

    clock: ManualClock
    url: str = ""
    status: dict[int, ocsp.OCSPCertStatus] = field(default_factory=dict)
    by_appointed: bool = False
    made_ago: timedelta = timedelta(0)
    lifetime: timedelta = LIFETIME
    unknown: tuple[bytes, bool] | None = None
    behave: Behaviour | None = None
    stand_in: Callable[[bytes], bytes] | None = None
    asked: list[int] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    _issued: dict[int, tuple[Issued, Issued]] = field(default_factory=dict)

    def chain(self, **leaf_changes: Any) -> Chain:
        """A new chain whose certificates say that this is whom to ask."""
        made = Chain(
            intermediate_recipe=replace(INTERMEDIATE, ocsp_url=self.url + "/root"),
            leaf_recipe=replace(LEAF, **{"ocsp_url": self.url + "/intermediate", **leaf_changes}),
        )
        for certificate, issuer in ((made.leaf, made.intermediate), (made.intermediate, made.root)):
            self._issued[certificate.certificate.serial_number] = certificate, issuer
        return made

    def answer(self, question: bytes) -> bytes:
        serial = ocsp.load_der_ocsp_request(question).serial_number
        self.asked.append(serial)
        if self.stand_in is not None:
            return self.stand_in(question)
        about, issuer = self._issued[serial]
        responder = issue(OCSP_RESPONDER, issuer=issuer) if self.by_appointed else issuer
        made = self.clock.now() - self.made_ago
        return ocsp_answer(
            about,
            issuer=issuer,
            status=self.status.get(serial, GOOD),
            this_update=made,
            next_update=made + self.lifetime,
            responder=responder,
            enclosed=[responder] if self.by_appointed else [],
            unknown=self.unknown,
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    responder: Responder

    def do_POST(self) -> None:
        answer = self.responder.answer(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["Content-Type"] == "application/ocsp-request"
        (self.responder.behave or says)(self, answer)

    def log_message(self, *_: object) -> None:
        """The test's output is no access log."""


def says(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def responder(clock: ManualClock) -> Iterator[Responder]:
    responder = Responder(clock)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneResponder", (_Handler,), {"responder": responder}))
    server.daemon_threads = True
    responder.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield responder
    responder.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def asking(clock: ManualClock, **settings: Any) -> Iterator[OcspRegistry]:
    transport = Transport(
        session=store_session(connections=1), connect_timeout_s=READ_TIMEOUT_S, read_timeout_s=READ_TIMEOUT_S
    )
    registry = OcspRegistry(**{"transport": transport, "clock": clock, **settings})
    try:
        yield registry
    finally:
        registry.close()


@pytest.fixture
def registry(clock: ManualClock) -> Iterator[OcspRegistry]:
    with asking(clock) as registry:
        yield registry


def certificates(chain: Chain) -> CertificateChain:
    return CertificateChain(chain.leaf.certificate, chain.intermediate.certificate, chain.root.certificate)


def says_of(registry: OcspRegistry, chain: Chain, clock: ManualClock) -> str:
    """`good`, `revoked` (or refused for good otherwise), or `unconfirmed`."""
    try:
        registry.check(certificates(chain), now=clock.now())
    except JwsUntrusted:
        return "revoked"
    except JwsUnconfirmed:
        return "unconfirmed"
    return "good"


def wait_for(word: str, registry: OcspRegistry, chain: Chain, clock: ManualClock) -> None:
    wait_until(lambda: says_of(registry, chain, clock) == word, within_s=LIMIT_S, what=f"that it is {word}")


def wait_for_rest(registry: OcspRegistry, clock: ManualClock) -> None:
    """Until every question that is due has been asked, and what came of it is known."""
    wait_until(lambda: not registry._due(clock.now().timestamp()), within_s=LIMIT_S, what="that nothing is due")


def pass_time(registry: OcspRegistry, chain: Chain, clock: ManualClock, seconds: float) -> None:
    """The clock goes on, somebody checks, and what is due then is asked."""
    clock.advance(seconds)
    says_of(registry, chain, clock)
    wait_for_rest(registry, clock)


def wait_for_questions(responder: Responder, count: int) -> None:
    wait_until(lambda: len(responder.asked) >= count, within_s=LIMIT_S, what=f"the question no. {count}")


def serials(chain: Chain) -> list[int]:
    return [chain.leaf.certificate.serial_number, chain.intermediate.certificate.serial_number]


# ---- what is asked and known ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_appointed", [False, True])
def test_a_chain_is_unconfirmed_until_its_issuers_have_answered_and_good_from_then_on(
    responder: Responder, registry: OcspRegistry, clock: ManualClock, by_appointed: bool
) -> None:
    responder.by_appointed = by_appointed
    chain = responder.chain()
    assert says_of(registry, chain, clock) == "unconfirmed"
    wait_for("good", registry, chain, clock)
    assert sorted(responder.asked) == sorted(serials(chain))


@pytest.mark.parametrize("which", [0, 1])
def test_a_chain_with_a_revoked_certificate_is_refused_for_good_and_not_asked_about_again(
    responder: Responder, registry: OcspRegistry, clock: ManualClock, which: int
) -> None:
    chain = responder.chain()
    responder.status[serials(chain)[which]] = REVOKED
    wait_for("revoked", registry, chain, clock)
    wait_for_rest(registry, clock)
    responder.status.clear()
    pass_time(registry, chain, clock, LIFETIME.total_seconds())
    assert says_of(registry, chain, clock) == "revoked"
    assert responder.asked.count(serials(chain)[which]) == 1
    assert responder.asked.count(serials(chain)[1 - which]) == 2


def test_a_certificate_that_its_responder_does_not_know_yet_is_good_once_it_does(
    responder: Responder, registry: OcspRegistry, clock: ManualClock
) -> None:
    chain = responder.chain()
    responder.status[serials(chain)[0]] = UNKNOWN
    pass_time(registry, chain, clock, 0)
    assert says_of(registry, chain, clock) == "unconfirmed"
    responder.status.clear()
    pass_time(registry, chain, clock, BACKOFF_S_MAX)
    assert says_of(registry, chain, clock) == "good"


def test_a_certificate_that_nobody_answers_for_is_refused(
    registry: OcspRegistry, clock: ManualClock, responder: Responder
) -> None:
    """As Apple's library refuses it: no App Store certificate is without."""
    chain = responder.chain(ocsp_url=None)
    wait_for("revoked", registry, chain, clock)
    with pytest.raises(JwsUntrusted, match="does not say where to ask"):
        registry.check(certificates(chain), now=clock.now())


def test_a_crowd_at_a_new_chain_asks_each_question_once(
    responder: Responder, registry: OcspRegistry, clock: ManualClock
) -> None:
    chain = responder.chain()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: says_of(registry, chain, clock), range(200)))
    wait_for("good", registry, chain, clock)
    assert sorted(responder.asked) == sorted(serials(chain))


@pytest.mark.parametrize("status", ["good", "revoked"])
def test_the_simulators_responder_is_understood_which_knows_nothing_of_ours(
    responder: Responder, registry: OcspRegistry, clock: ManualClock, status: Literal["good", "revoked"]
) -> None:
    authority = create(now=clock.now(), ocsp_url=responder.url)
    faults = FaultBoard(system_ids())
    faults.put(Faults(ocsp=OcspFaults(status=status)))
    responder.stand_in = OcspResponder(authority, faults=faults, clock=clock).answer

    def said() -> str:
        try:
            registry.check(CertificateChain(*authority.chain), now=clock.now())
        except JwsUnconfirmed:
            return "unconfirmed"
        except JwsUntrusted:
            return "revoked"
        return "good"

    assert said() == "unconfirmed"
    wait_until(lambda: said() == status, what=f"that it is {status}")


# ---- freshness -----------------------------------------------------------------------------------------------------


def test_an_answer_is_asked_for_anew_before_it_is_stale(
    responder: Responder, registry: OcspRegistry, clock: ManualClock
) -> None:
    chain = responder.chain()
    wait_for("good", registry, chain, clock)
    for asked in (4, 6, 8):
        pass_time(registry, chain, clock, 3600)
        assert len(responder.asked) == asked
    clock.advance((LIFETIME + SKEW).total_seconds() - 1)
    assert says_of(registry, chain, clock) == "good"


def test_an_answer_is_asked_for_anew_though_nobody_checks(
    responder: Responder, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "POLL_S", 0.02)
    chain = responder.chain()
    with asking(clock) as registry:
        wait_for("good", registry, chain, clock)
        clock.advance(3600)
        wait_for_questions(responder, 4)


def test_half_of_an_answers_time_is_waited_for_the_next_when_that_is_less_than_an_hour(
    responder: Responder, registry: OcspRegistry, clock: ManualClock
) -> None:
    responder.lifetime = timedelta(seconds=1000) - SKEW
    chain = responder.chain()
    wait_for("good", registry, chain, clock)
    pass_time(registry, chain, clock, 499)
    assert len(responder.asked) == 2
    pass_time(registry, chain, clock, 1)
    assert len(responder.asked) == 4


def test_a_responder_that_falls_silent_leaves_what_is_good_good_until_that_is_stale_and_no_longer(
    responder: Responder, registry: OcspRegistry, clock: ManualClock
) -> None:
    chain = responder.chain()
    wait_for("good", registry, chain, clock)
    responder.behave = hang_up
    pass_time(registry, chain, clock, (LIFETIME + SKEW).total_seconds() - 1)
    assert len(responder.asked) == 4
    assert says_of(registry, chain, clock) == "good"
    pass_time(registry, chain, clock, 1)
    assert says_of(registry, chain, clock) == "unconfirmed"
    responder.behave = None
    pass_time(registry, chain, clock, BACKOFF_S_MAX)
    assert says_of(registry, chain, clock) == "good"


def test_an_older_answer_that_is_repeated_takes_nothing_away(
    responder: Responder, registry: OcspRegistry, clock: ManualClock
) -> None:
    chain = responder.chain()
    wait_for("good", registry, chain, clock)
    responder.made_ago = timedelta(hours=6)
    pass_time(registry, chain, clock, 3600)
    responder.behave = hang_up
    pass_time(registry, chain, clock, (LIFETIME + SKEW).total_seconds() - 3600 - 1)
    assert says_of(registry, chain, clock) == "good"


# ---- responders that do not answer, or not well --------------------------------------------------------------------


def hang_up(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    handler.close_connection = True


def silent(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    assert isinstance(handler, _Handler)
    handler.responder.closing.wait(LIMIT_S)
    handler.close_connection = True


def dripping(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    assert isinstance(handler, _Handler)
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not handler.responder.closing.wait(READ_TIMEOUT_S / 4):
            handler.wfile.write(b"x")
    except OSError:
        return


def endless(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    assert isinstance(handler, _Handler)
    try:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        while not handler.responder.closing.is_set():
            handler.wfile.write(bytes(64 * 1024))
    except OSError:
        return


def another_serial(handler: BaseHTTPRequestHandler, _: bytes) -> None:
    assert isinstance(handler, _Handler)
    other = handler.responder.chain()
    says(handler, ocsp_answer(other.leaf, issuer=other.intermediate, this_update=START, next_update=START + LIFETIME))


BAD: dict[str, Behaviour] = {
    "hangs up": hang_up,
    "silent": silent,
    "dripping": dripping,
    "endless": endless,
    "not OCSP": lambda handler, _: says(handler, b"<html>captive portal</html>"),
    "nothing": lambda handler, _: says(handler, b""),
    "cut": lambda handler, answer: says(handler, answer[:-1]),
    "not signed so": lambda handler, answer: says(handler, answer[:-1] + bytes([answer[-1] ^ 1])),
    "of another certificate": another_serial,
    "HTTP 503": lambda handler, answer: says(handler, answer, 503),
    "HTTP 404": lambda handler, answer: says(handler, answer, 404),
    "a redirect": lambda handler, answer: says(handler, answer, 302, Location="/elsewhere"),
    "busy": lambda handler, _: says(handler, ocsp_refusal(ocsp.OCSPResponseStatus.TRY_LATER)),
    "unauthorized": lambda handler, _: says(handler, ocsp_refusal(ocsp.OCSPResponseStatus.UNAUTHORIZED)),
}


def ocsp_refusal(status: ocsp.OCSPResponseStatus) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(Encoding.DER)


@pytest.mark.parametrize("behaviour", BAD)
def test_a_responder_that_does_not_answer_well_never_gets_a_chain_refused(
    responder: Responder, registry: OcspRegistry, clock: ManualClock, behaviour: str
) -> None:
    chain = responder.chain()
    responder.behave = BAD[behaviour]
    pass_time(registry, chain, clock, 0)
    assert failures(registry, chain) == [1, 1]
    assert says_of(registry, chain, clock) == "unconfirmed"
    responder.behave = None
    pass_time(registry, chain, clock, BACKOFF_S_MAX)
    assert says_of(registry, chain, clock) == "good"


@pytest.mark.parametrize(
    "change", [{"made_ago": LIFETIME + SKEW}, {"made_ago": -SKEW - timedelta(seconds=1)}], ids=["stale", "future"]
)
def test_an_answer_of_another_time_confirms_nothing(
    responder: Responder, registry: OcspRegistry, clock: ManualClock, change: dict[str, timedelta]
) -> None:
    chain = responder.chain()
    responder.made_ago = change["made_ago"]
    pass_time(registry, chain, clock, 0)
    assert failures(registry, chain) == [1, 1]
    assert says_of(registry, chain, clock) == "unconfirmed"


def test_an_answer_longer_than_the_limit_is_not_read_though_it_is_a_good_one(
    responder: Responder, registry: OcspRegistry, clock: ManualClock
) -> None:
    chain = responder.chain()
    responder.unknown = bytes(ANSWER_BYTES_MAX), False
    pass_time(registry, chain, clock, 0)
    assert says_of(registry, chain, clock) == "unconfirmed"
    responder.unknown = bytes(ANSWER_BYTES_MAX // 2), False
    pass_time(registry, chain, clock, BACKOFF_S_MAX)
    assert says_of(registry, chain, clock) == "good"


def failures(registry: OcspRegistry, chain: Chain) -> list[int]:
    """Of the questions about leaf and intermediate since the last that was answered."""
    known = certificates(chain)
    return [registry._known[each].failures for each in (known.leaf_sha256, known.intermediate_sha256)]


def test_checking_waits_for_nobody(responder: Responder, clock: ManualClock) -> None:
    """Each check of a chain whose responder is silent is over long before the question's time-out is."""
    responder.behave = silent
    chain = responder.chain()
    transport = Transport(session=store_session(connections=1), connect_timeout_s=5, read_timeout_s=5)
    with asking(clock, transport=transport) as registry:
        says_of(registry, chain, clock)
        wait_for_questions(responder, 1)
        started = SystemClock().monotonic()
        assert {says_of(registry, chain, clock) for _ in range(100)} == {"unconfirmed"}
        assert SystemClock().monotonic() - started < 2.5
        responder.closing.set()


def test_who_does_not_answer_is_asked_less_and_less_often(
    responder: Responder, registry: OcspRegistry, clock: ManualClock
) -> None:
    responder.behave = hang_up
    chain = responder.chain()
    waits = [0.0]
    for _ in range(8):
        pass_time(registry, chain, clock, waits[-1])
        with pytest.raises(JwsUnconfirmed) as told:
            registry.check(certificates(chain), now=clock.now())
        waits.append(told.value.retry_after_s - RETRY_AFTER_S_MIN)
    assert waits == pytest.approx([0, 5, 10, 20, 40, 80, 160, 300, 300])
    assert len(responder.asked) == 2 * 8


def test_who_has_answered_again_is_soon_asked_again_when_he_falls_silent_anew(
    responder: Responder, registry: OcspRegistry, clock: ManualClock
) -> None:
    chain = responder.chain()
    responder.behave = hang_up
    for _ in range(4):
        pass_time(registry, chain, clock, BACKOFF_S_MAX)
    responder.behave = None
    pass_time(registry, chain, clock, BACKOFF_S_MAX)
    responder.behave = hang_up
    pass_time(registry, chain, clock, (LIFETIME + SKEW).total_seconds())
    with pytest.raises(JwsUnconfirmed) as told:
        registry.check(certificates(chain), now=clock.now())
    assert told.value.retry_after_s == pytest.approx(BACKOFF_S_MIN + RETRY_AFTER_S_MIN)


def test_whoever_meets_a_new_chain_is_told_to_come_again_soon(
    responder: Responder, registry: OcspRegistry, clock: ManualClock
) -> None:
    with pytest.raises(JwsUnconfirmed) as told:
        registry.check(certificates(responder.chain()), now=clock.now())
    assert told.value.retry_after_s == RETRY_AFTER_S_MIN


def test_the_second_address_is_asked_when_the_first_does_not_answer(
    responder: Responder, registry: OcspRegistry, clock: ManualClock
) -> None:
    from cryptography import x509
    from cryptography.x509.oid import AuthorityInformationAccessOID

    urls = ["http://127.0.0.1:1/nobody", responder.url]
    access = [
        x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url)) for url in urls
    ]
    chain = responder.chain(ocsp_url=None, extensions=((x509.AuthorityInformationAccess(access), False),))
    wait_for("good", registry, chain, clock)


class _Breaking(Transport):
    """Breaks in a way that nobody thought of, once."""

    broken = False

    def exchange(self, *arguments: Any, **named: Any) -> Answer:
        if not self.broken:
            self.broken = True
            raise RuntimeError("nobody thought of this")
        return super().exchange(*arguments, **named)


def test_the_thread_lives_on_whatever_breaks_while_it_asks(responder: Responder, clock: ManualClock) -> None:
    transport = _Breaking(session=store_session(connections=1), connect_timeout_s=1, read_timeout_s=1)
    chain = responder.chain()
    with asking(clock, transport=transport) as registry:
        pass_time(registry, chain, clock, 0)
        assert failures(registry, chain) == [1, 0]
        pass_time(registry, chain, clock, BACKOFF_S_MAX)
        assert says_of(registry, chain, clock) == "good"


# ---- bounds --------------------------------------------------------------------------------------------------------


def test_of_more_certificates_than_it_may_know_the_one_not_met_for_longest_goes(
    responder: Responder, clock: ManualClock
) -> None:
    chains = [responder.chain() for _ in range(3)]
    with asking(clock, certificates_max=4) as registry:
        for chain in (chains[0], chains[1], chains[0]):
            clock.advance(1)
            wait_for("good", registry, chain, clock)
        clock.advance(1)
        wait_for("good", registry, chains[2], clock)
        assert registry.known_certificates() == 4
        assert says_of(registry, chains[0], clock) == "good"
        assert says_of(registry, chains[1], clock) == "unconfirmed"


def test_a_certificate_that_is_not_met_for_a_day_is_asked_about_no_more(
    responder: Responder, registry: OcspRegistry, clock: ManualClock
) -> None:
    old, new = responder.chain(), responder.chain()
    wait_for("good", registry, old, clock)
    clock.advance(UNMET_S_MAX + 1)
    wait_for("good", registry, new, clock)
    assert registry.known_certificates() == 2
    assert set(responder.asked[2:]) == set(serials(new))


def test_a_registry_that_is_closed_asks_nothing(responder: Responder, clock: ManualClock) -> None:
    with asking(clock) as used, asking(clock) as unused:
        wait_for("good", used, responder.chain(), clock)
        used.close()
        assert not used._thread.is_alive()
        unused.close()
        assert says_of(unused, responder.chain(), clock) == "unconfirmed"
        assert unused._thread.ident is None


def test_closing_leaves_the_questions_that_are_due(
    responder: Responder, registry: OcspRegistry, clock: ManualClock
) -> None:
    chain = responder.chain()
    wait_for("good", registry, chain, clock)
    responder.behave = silent
    clock.advance(3600)
    says_of(registry, chain, clock)
    wait_for_questions(responder, 3)
    registry.close()
    assert not registry._thread.is_alive()
    assert len(responder.asked) == 3


# ---- with the verifier ---------------------------------------------------------------------------------------------


def claims(clock: ManualClock) -> dict[str, Any]:
    return {"transactionId": "1", "signedDate": to_unix_ms(clock.now())}


def verifier_of(registry: OcspRegistry, chain: Chain) -> JwsVerifier:
    return JwsVerifier(anchors=TrustAnchors.of(files=[chain.root.der]), revocation=registry)


def verdict(verifier: JwsVerifier, token: str, clock: ManualClock) -> type[Exception] | None:
    try:
        verifier.verify(token, now=clock.now())
    except (JwsUntrusted, JwsMalformed, JwsUnconfirmed) as error:
        return type(error)
    return None


def test_a_token_is_taken_once_its_chain_is_confirmed_and_refused_once_it_is_revoked(
    responder: Responder, registry: OcspRegistry, clock: ManualClock
) -> None:
    chain = responder.chain()
    verifier, token = verifier_of(registry, chain), chain.sign(claims(clock))
    assert verdict(verifier, token, clock) is JwsUnconfirmed
    wait_until(lambda: verdict(verifier, token, clock) is None, what="that the token is taken")
    responder.status[serials(chain)[0]] = REVOKED
    clock.advance(3600)
    wait_until(lambda: verdict(verifier, token, clock) is JwsUntrusted, what="that the token is refused")


def test_a_chain_that_is_kept_is_asked_about_for_each_token(
    responder: Responder, registry: OcspRegistry, clock: ManualClock
) -> None:
    chain = responder.chain()
    verifier, token = verifier_of(registry, chain), chain.sign(claims(clock))
    assert verdict(verifier, token, clock) is JwsUnconfirmed
    assert verifier.cached_chains() == 1
    wait_until(lambda: verdict(verifier, token, clock) is None, what="that the token is taken")
    assert verifier.cached_chains() == 1


def test_a_stranger_cannot_make_us_ask(responder: Responder, registry: OcspRegistry, clock: ManualClock) -> None:
    """Neither with a chain of his own that names an address, nor with the App Store's over what it did not sign."""
    ours, strangers = responder.chain(), responder.chain()
    verifier = verifier_of(registry, ours)
    assert verdict(verifier, strangers.sign(claims(clock)), clock) is JwsUntrusted
    assert verdict(verifier, with_signature(ours.sign(claims(clock)), bytes(64)), clock) is JwsUntrusted
    assert registry.known_certificates() == 0


def test_with_revocation_a_chain_that_has_expired_vouches_for_nothing_not_even_its_past(
    responder: Responder, registry: OcspRegistry, clock: ManualClock
) -> None:
    chain = responder.chain(not_after=START + timedelta(hours=1))
    verifier, token = verifier_of(registry, chain), chain.sign(claims(clock))
    wait_until(lambda: verdict(verifier, token, clock) is None, what="that the token is taken")
    clock.advance(3600)
    assert verdict(verifier, token, clock) is JwsUntrusted
    assert verdict(JwsVerifier(anchors=TrustAnchors.of(files=[chain.root.der])), token, clock) is None
