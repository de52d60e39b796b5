"""Which of the App Store's certificates were revoked: asked of Apple's responders in the background, known at once.

Checking a signature never waits for this. A certificate that is seen for the first time is asked about by a thread of
our own; until an answer is here, and when the last one is stale, whoever checks is told to come again.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from shared.clock import Clock
from shared.jws import CertificateChain, JwsUnconfirmed, JwsUntrusted
from shared.log import get_logger
from verifier.apple.counting import Api, answered, called
from verifier.apple.transport import StoreUnreachable, Transport
from verifier.domain.ocsp import NoAnswer, NotRevoked, OcspAnswer, Revoked, build_question, read_answer, responder_urls

API: Final[Api] = "ocsp"

CERTIFICATES_MAX: Final = 64
"""So many are known at a time; the App Store uses a handful. Beyond, the one that was not met for longest goes."""

UNMET_S_MAX: Final = 24 * 3600
"""A certificate that was not met for so long is asked about no more: the App Store has gone over to another."""

REFRESH_S_MAX: Final = 3600
"""An answer is asked for anew when half of its time is over, and after an hour at the latest."""

BACKOFF_S_MIN: Final = 5.0
BACKOFF_S_MAX: Final = 300.0
"""Who does not answer is asked again after 5, 10, 20, 40 … seconds, then every five minutes."""

RETRY_AFTER_S_MIN: Final = 2.0
"""A responder answers within a second; whoever was told to come again finds the answer then."""

ANSWER_BYTES_MAX: Final = 64 * 1024
"""An answer is some 300 bytes, with the certificate of an appointed responder 1,500."""

URLS_MAX: Final = 2
POLL_S: Final = 60.0
CLOSE_S_MAX: Final = 2.0

_HEADERS: Final = {"Content-Type": "application/ocsp-request", "Accept": "application/ocsp-response"}

log = get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Standing:
    """What is known of one certificate. Times are UNIX seconds; written by the background thread but for `met_at_s`."""

    certificate: x509.Certificate
    issuer: x509.Certificate
    urls: tuple[str, ...]
    met_at_s: float
    ask_at_s: float
    good_until_s: float = -math.inf
    failures: int = 0
    revoked: bool = False


class OcspRegistry:
    """`shared.jws.Revocation`: thread-safe, one for a process. Its thread starts with the first certificate it meets.

    A revoked certificate stays revoked; one that is good stays good until its newest answer is stale, whether or not
    the responder still answers.
    """

    def __init__(self, *, transport: Transport, clock: Clock, certificates_max: int = CERTIFICATES_MAX) -> None:
        self._transport = transport
        self._clock = clock
        self._certificates_max = certificates_max
        self._known: dict[bytes, _Standing] = {}  # by the certificate's SHA-256
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ocsp", daemon=True)

    def check(self, chain: CertificateChain, *, now: datetime) -> None:
        """Returns when neither leaf nor intermediate was revoked, as far as a fresh answer goes. Waits for nothing.

        Raises JwsUntrusted when one was, or cannot be asked about at all; JwsUnconfirmed when that is not known now.
        """
        now_s = now.timestamp()
        leaf = self._known.get(chain.leaf_sha256) or self._admit(
            chain.leaf_sha256, chain.leaf, issuer=chain.intermediate, now_s=now_s
        )
        intermediate = self._known.get(chain.intermediate_sha256) or self._admit(
            chain.intermediate_sha256, chain.intermediate, issuer=chain.root, now_s=now_s
        )
        leaf.met_at_s = intermediate.met_at_s = now_s
        if now_s >= leaf.ask_at_s or now_s >= intermediate.ask_at_s:
            self._wake.set()
        if leaf.revoked or intermediate.revoked:
            raise JwsUntrusted("a certificate was revoked")
        if now_s >= leaf.good_until_s or now_s >= intermediate.good_until_s:
            raise _unconfirmed(leaf, intermediate, now_s)

    def known_certificates(self) -> int:
        """How many certificates are known, whatever is known of them."""
        return len(self._known)

    def close(self) -> None:
        """Ends the thread, or leaves it to its last question: it is a daemon, and its time-outs are short."""
        self._closed.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_S_MAX)

    def _admit(
        self, sha256: bytes, certificate: x509.Certificate, *, issuer: x509.Certificate, now_s: float
    ) -> _Standing:
        urls = responder_urls(certificate)[:URLS_MAX]
        new = _Standing(certificate, issuer, urls, met_at_s=now_s, ask_at_s=now_s if urls else math.inf)
        with self._lock:
            standing = self._known.setdefault(sha256, new)
            if len(self._known) > self._certificates_max:
                others = (each for each in self._known if each != sha256)
                del self._known[min(others, key=lambda each: self._known[each].met_at_s)]
            if self._thread.ident is None and not self._closed.is_set():
                self._thread.start()
        return standing

    # ---- the background thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed.is_set():
            self._wake.clear()
            for standing in self._due(self._clock.now().timestamp()):
                if not self._closed.is_set():
                    self._learn(standing, self._ask(standing))
            self._wake.wait(self._pause_s())

    def _due(self, now_s: float) -> list[_Standing]:
        """Whom to ask about now. Forgets those that are not met any more."""
        with self._lock:
            for sha256 in [each for each, known in self._known.items() if now_s > known.met_at_s + UNMET_S_MAX]:
                del self._known[sha256]
            return [standing for standing in self._known.values() if now_s >= standing.ask_at_s]

    def _pause_s(self) -> float:
        """Until the next question. Somebody who checks a certificate that is due wakes us in any case."""
        with self._lock:
            next_s = min((standing.ask_at_s for standing in self._known.values()), default=math.inf)
        return min(max(next_s - self._clock.now().timestamp(), 0.0), POLL_S)

    def _ask(self, standing: _Standing) -> OcspAnswer:
        answer: OcspAnswer = NoAnswer("it was not asked")
        for url in standing.urls:
            answer = self._ask_at(url, standing)
            if not isinstance(answer, NoAnswer):
                break
        return answer

    def _ask_at(self, url: str, standing: _Standing) -> OcspAnswer:
        certificate, issuer = standing.certificate, standing.issuer
        try:
            question = build_question(certificate, issuer=issuer)
            answer = called(API, lambda: self._transport.exchange("POST", url, headers=_HEADERS, body=question))
        except StoreUnreachable as error:
            return NoAnswer(str(error))
        except Exception as error:
            log.exception("asking whether a certificate was revoked broke", url=url)
            return NoAnswer(type(error).__name__)  # the thread has to live on: without it nothing is ever confirmed
        answered(API, answer.status)
        if answer.status != 200:
            return NoAnswer(f"HTTP {answer.status}")
        if len(answer.body) > ANSWER_BYTES_MAX:
            return NoAnswer("the answer is too long")
        return read_answer(answer.body, certificate=certificate, issuer=issuer, now=self._clock.now())

    def _learn(self, standing: _Standing, answer: OcspAnswer) -> None:
        now_s = self._clock.now().timestamp()
        match answer:
            case NotRevoked(until):
                standing.failures = 0
                # an answer of an hour ago may be repeated to us while it is fresh: it takes nothing away
                standing.good_until_s = max(standing.good_until_s, until.timestamp())
                standing.ask_at_s = now_s + _refresh_s(until.timestamp() - now_s)
            case Revoked(at):
                standing.revoked = True
                standing.ask_at_s = math.inf
                log.error("a certificate of the App Store was revoked", at=at.isoformat(), **_named(standing))
            case NoAnswer(why):
                standing.ask_at_s = now_s + min(BACKOFF_S_MIN * 2**standing.failures, BACKOFF_S_MAX)
                standing.failures = min(standing.failures + 1, 16)
                log.warning("whether a certificate was revoked is not known", why=why, **_named(standing))


def _unconfirmed(leaf: _Standing, intermediate: _Standing, now_s: float) -> JwsUnconfirmed | JwsUntrusted:
    unknown = [each for each in (leaf, intermediate) if now_s >= each.good_until_s]
    if any(not each.urls for each in unknown):  # nobody will ever answer for it
        return JwsUntrusted("a certificate does not say where to ask whether it was revoked")
    wait_s = max(each.ask_at_s for each in unknown) - now_s + RETRY_AFTER_S_MIN
    return JwsUnconfirmed(
        "whether a certificate was revoked is not known at the moment", retry_after_s=max(wait_s, RETRY_AFTER_S_MIN)
    )


def _refresh_s(left_s: float) -> float:
    return min(max(left_s / 2, BACKOFF_S_MIN), REFRESH_S_MAX)


def _named(standing: _Standing) -> dict[str, str]:
    return {
        "subject": standing.certificate.subject.rfc4514_string(),
        "sha256": standing.certificate.fingerprint(hashes.SHA256()).hex(),
        "urls": " ".join(standing.urls),
    }
