"""Server-side request forgery: whatever an endpoint's URL says, and whatever the DNS says of it, what is not public and
not allowed is never connected to.

Each target is posted to as in production, while somebody listens on every address of this machine.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path

import pytest

from notifier.app import apps_with_endpoints, webhook_poster
from notifier.domain.addresses import Kind, Reach, in_words
from notifier.domain.deliveries import Answer, Message
from notifier.domain.endpoints import endpoint_problems
from notifier.settings import EndpointsSettings, PostingSettings
from notifier.webhook.caller import Found, LookUp, look_up
from notifier.webhook.poster import WebhookPoster
from shared.apps import EndpointId, WebhookEndpoint
from shared.clock import SystemClock
from shared.settings import examine, read
from tests.support.authority import Authority
from tests.support.notifier import SECRET, apps_text, apps_with, endpoint
from tests.support.receiver import Receiver, Reply, receiving

MESSAGE = Message(id="0194b8d4-0000-7000-8000-000000000001", body=b'{"type":"wallet.credited","data":{}}')
PUBLIC = "93.184.215.14"
HOST = "backend.example"
PRODUCTION = Reach.of(production=True)

LITERAL: tuple[tuple[Kind, str], ...] = (
    # this machine, by IPv4
    ("loopback", "127.0.0.1"),
    ("loopback", "127.1"),
    ("loopback", "127.0.1"),
    ("loopback", "127.255.255.254"),
    ("loopback", "2130706433"),
    ("loopback", "017700000001"),
    ("loopback", "0177.0.0.1"),
    ("loopback", "0177.0.1"),
    ("loopback", "0x7f000001"),
    ("loopback", "0x7f.0x0.0x0.0x1"),
    ("loopback", "0X7F.1"),
    ("loopback", "0x7f.0.01"),
    ("loopback", "localhost"),
    ("loopback", "LOCALHOST"),
    ("unspecified", "0.0.0.0"),  # noqa: S104  nobody binds to it
    ("unspecified", "0"),
    ("unspecified", "0x0"),
    # this machine, by IPv6
    ("loopback", "[::1]"),
    ("loopback", "[0:0:0:0:0:0:0:1]"),
    ("loopback", "[0000:0000:0000:0000:0000:0000:0000:0001]"),
    ("unspecified", "[::]"),
    ("loopback", "[::ffff:127.0.0.1]"),
    ("loopback", "[::ffff:7f00:1]"),
    ("loopback", "[::FFFF:7F00:0001]"),
    ("loopback", "[::127.0.0.1]"),
    ("loopback", "[::ffff:0:127.0.0.1]"),
    ("loopback", "[64:ff9b::127.0.0.1]"),
    ("loopback", "[64:ff9b:1::7f00:1]"),
    ("loopback", "[2002:7f00:1::1]"),
    ("loopback", "[2001:0:5db8:d822:8000:0:80ff:fffe]"),
    # who else is near
    ("private", "10.0.0.1"),
    ("private", "167772161"),
    ("private", "172.16.0.1"),
    ("private", "192.168.0.1"),
    ("private", "0300.0250.0.1"),
    ("private", "100.64.0.1"),
    ("private", "[fd12:3456::1]"),
    ("private", "[fec0::1]"),
    ("private", "[::ffff:10.0.0.1]"),
    ("private", "[2002:c0a8:1::1]"),
    ("link-local", "169.254.1.1"),
    ("link-local", "[fe80::1]"),
    ("benchmarking", "198.18.0.1"),
    ("documentation", "192.0.2.1"),
    ("documentation", "[2001:db8::1]"),
    ("multicast", "224.0.0.1"),
    ("multicast", "[ff02::1]"),
    ("broadcast", "255.255.255.255"),
    ("reserved", "240.0.0.1"),
    ("reserved", "192.0.0.8"),
    ("reserved", "[100::1]"),
    # the cloud's own
    ("metadata", "169.254.169.254"),
    ("metadata", "2852039166"),
    ("metadata", "0xa9fea9fe"),
    ("metadata", "0251.0376.0251.0376"),
    ("metadata", "169.254.170.2"),
    ("metadata", "168.63.129.16"),
    ("metadata", "100.100.100.200"),
    ("metadata", "[fd00:ec2::254]"),
    ("metadata", "[fd20:ce::254]"),
    ("metadata", "[::ffff:169.254.169.254]"),
    ("metadata", "[64:ff9b::a9fe:a9fe]"),
)
NOT_FOR_ALL: tuple[tuple[Kind, str], ...] = (
    ("loopback", "127.0.0.1."),
    ("loopback", "①②⑦.⓪.⓪.①"),
    ("loopback", "１２７.0.0.1"),
    ("loopback", "127。0。0。1"),
    ("loopback", "127．0．0．1"),
    ("loopback", "backend.localhost"),
)
"""Spellings that some take for an address, and others for a name that nobody has."""
NAMED: tuple[tuple[Kind, Sequence[str]], ...] = (
    ("loopback", ["127.0.0.1"]),
    ("loopback", ["::1"]),
    ("loopback", ["::ffff:127.0.0.1"]),
    ("loopback", ["64:ff9b::7f00:1"]),
    ("unspecified", ["0.0.0.0"]),  # noqa: S104  nobody binds to it
    ("private", ["10.0.0.1"]),
    ("private", ["192.168.1.1"]),
    ("private", ["fd12:3456::1"]),
    ("link-local", ["fe80::1%lo"]),
    ("metadata", ["169.254.169.254"]),
    ("metadata", ["fd00:ec2::254"]),
    ("translated", ["64:ff9b::808:808"]),
    ("loopback", [PUBLIC, "127.0.0.1"]),
    ("loopback", ["127.0.0.1", PUBLIC]),
    ("private", ["2606:4700::1111", "10.0.0.1"]),
)


def found(address: str, port: int) -> Found:
    return Found(socket.AF_INET6 if ":" in address else socket.AF_INET, (address, port))


def saying(*answers: Sequence[str]) -> LookUp:
    """A DNS that says this of every name, in turn, and from then on the last of it."""
    left = list(answers)

    def answered(_: str, port: int) -> Sequence[Found]:
        return [found(address, port) for address in (left.pop(0) if len(left) > 1 else left[0])]

    return answered


class Listener:
    """Listens on every address of this machine, and knows whether it was ever connected to."""

    def __init__(self) -> None:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        self.socket = socket.create_server(("", 0), family=family, dualstack_ipv6=both)
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]

    def was_called(self) -> bool:
        """The kernel keeps whoever has connected for whoever accepts."""
        try:
            self.socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def listener() -> Iterator[Listener]:
    listening = Listener()
    with listening.socket:
        yield listening


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.made(tmp_path_factory.mktemp("authority"))


@contextlib.contextmanager
def posting(
    reach: Reach = PRODUCTION, *, look_up: LookUp = look_up, authorities: Path | None = None
) -> Iterator[Callable[[str], Answer]]:
    """Posts the message to a URL."""
    poster = WebhookPoster(
        clock=SystemClock(),
        connect_timeout_s=2,
        timeout_s=2,
        reach=reach,
        look_up=look_up,
        authorities=authorities,
    )
    with contextlib.closing(poster):
        yield lambda url: poster.post(
            MESSAGE, endpoint=WebhookEndpoint(id=EndpointId("backend"), url=url, secret=SECRET)
        )


class TestTargets:
    def test_somebody_would_hear_it(self, listener: Listener) -> None:
        with posting(Reach.of(production=False)) as post:
            post(f"https://127.0.0.1:{listener.port}/hooks")
        assert listener.was_called()

    @pytest.mark.parametrize(("kind", "host"), LITERAL)
    def test_an_address_in_whatever_spelling_is_refused(self, kind: Kind, host: str, listener: Listener) -> None:
        with posting() as post:
            answer = post(f"https://{host}:{listener.port}/latest/meta-data?token=hidden")
        assert answer.status is None
        assert (answer.error or "").startswith("refused: ")
        assert (answer.error or "").endswith(f" is at {in_words(kind)}")
        assert "hidden" not in (answer.error or "")
        assert not listener.was_called()

    @pytest.mark.parametrize(("kind", "host"), [*LITERAL, *NOT_FOR_ALL])
    def test_and_is_named_when_the_process_starts(self, kind: Kind, host: str) -> None:
        apps = apps_with(endpoint(f"https://{host}/hooks?token=hidden"))
        (problem,) = endpoint_problems(apps, production=True)
        assert problem.startswith("app 'game': webhook 'backend': url may not lead to ")
        assert in_words(kind) in problem
        assert "hidden" not in problem

    @pytest.mark.parametrize(("kind", "addresses"), NAMED)
    def test_a_name_that_leads_there_is_refused(self, kind: Kind, addresses: Sequence[str], listener: Listener) -> None:
        with posting(look_up=saying(addresses)) as post:
            answer = post(f"https://{HOST}:{listener.port}/hooks?token=hidden")
        assert (answer.status, answer.error) == (None, f"refused: {HOST} is at {in_words(kind)}")
        assert not listener.was_called()

    @pytest.mark.parametrize(
        "url",
        [
            "https://backend.example@127.0.0.1:{port}/",
            "https://backend.example:443@127.0.0.1:{port}/",
            "https://backend.example%40127.0.0.1:{port}/",
            "https://127.0.0.1:{port}\\@backend.example/",
            "https://backend.example\\@127.0.0.1:{port}/",
            "https://backend.example#@127.0.0.1:{port}/",
            "https://127.0.0.1:{port}#@backend.example/",
            "https://127.0.0.1:{port}?@backend.example/",
            "https://127.0.0.%31:{port}/",
            "https://[::1%25lo]:{port}/",
            "https://[fe80::1%lo]:{port}/",
            "https://[fe80::1%25lo]:{port}/",
            "https:///127.0.0.1:{port}/",
            "https:127.0.0.1:{port}/",
            "//127.0.0.1:{port}/",
            "127.0.0.1:{port}/",
            "https://127.0.0.1 :{port}/",
            "https://127.0.0.1\t:{port}/",
            "\x00https://127.0.0.1:{port}/",
            "https://127.0.0.1\r\nHost: backend.example:{port}/",
            "HTTP://127.0.0.1:{port}/",
            "http://127.0.0.1:{port}/",
            "file:///etc/passwd",
            "gopher://127.0.0.1:{port}/_",
            "ftp://127.0.0.1:{port}/",
            "unix:///var/run/docker.sock",
            *(f"https://{host}:{{port}}/" for _, host in NOT_FOR_ALL),
        ],
    )
    def test_a_url_that_is_read_in_two_ways_leads_nowhere(self, url: str, listener: Listener) -> None:
        """`backend.example` is at a private address here, so that no reading of the URL leads anywhere."""
        with posting(look_up=_private_unless_literal) as post:
            answer = post(url.format(port=listener.port))
        assert answer.status is None
        assert answer.error
        assert not listener.was_called()

    @pytest.mark.parametrize(
        "url",
        [
            "https://backend.example@127.0.0.1/",
            "https://user:password@backend.example/",
            "https://backend.example\\@127.0.0.1/",
            "https://backend.example/a b",
            "https://backend.example\t/",
            "\x00https://backend.example/",
            "https://[fe80::1%25eth0]/",
            "https:///backend.example/",
            "gopher://backend.example/",
            "http://backend.example/",
        ],
    )
    def test_a_url_that_is_no_plain_one_is_named_when_the_process_starts(self, url: str) -> None:
        (problem,) = endpoint_problems(apps_with(endpoint(url)), production=True)
        assert problem.startswith("app 'game': webhook 'backend': url ")
        assert "password" not in problem


def _private_unless_literal(host: str, port: int) -> Sequence[Found]:
    return [found("10.0.0.1", port)] if host.endswith("example") else look_up(host, port)


class TestChangingAnswers:
    @pytest.fixture
    def backend(self, authority: Authority) -> Iterator[Receiver]:
        with receiving(SECRET, tls=authority.server(HOST)) as running:
            yield running

    @pytest.mark.parametrize("then", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1"])
    def test_a_name_whose_second_answer_is_forbidden_is_refused_at_its_next_connection(
        self, then: str, listener: Listener
    ) -> None:
        with posting(look_up=saying([PUBLIC, then], [then])) as post:
            for _ in range(2):
                assert (post(f"https://{HOST}:{listener.port}/hooks").error or "").startswith(f"refused: {HOST} is at ")
        assert not listener.was_called()

    def test_what_was_checked_is_what_is_connected_to_and_what_the_dns_says_next_counts_next(
        self, backend: Receiver, authority: Authority
    ) -> None:
        """The backend stands for a public one: its address is allowed, and no other is."""
        backend.reply_next(Reply(headers={"Connection": "close"}), Reply(headers={"Connection": "close"}))
        reach = Reach.of(production=True, allowed_networks=(ip_network("127.0.0.1/32"),))
        dns = saying(["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1"])
        with posting(reach, look_up=dns, authorities=authority.file) as post:
            answers = [post(f"https://{HOST}:{backend.port}/hooks").error for _ in range(3)]
        assert answers == [None, f"refused: {HOST} is at a loopback address", None]
        assert len(backend.received) == 2

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_a_redirect_leads_nowhere(
        self, status: int, scheme: str, backend: Receiver, authority: Authority, listener: Listener
    ) -> None:
        backend.reply_next(Reply(status=status, headers={"Location": f"{scheme}://127.0.0.1:{listener.port}/admin"}))
        reach = Reach.of(production=True, allowed_networks=(ip_network("127.0.0.1/32"),))
        with posting(reach, look_up=saying(["127.0.0.1"]), authorities=authority.file) as post:
            assert post(f"https://{HOST}:{backend.port}/hooks").error == f"answered {status}"
        assert len(backend.received) == 1
        assert not listener.was_called()


class TestWhatIsAllowed:
    ALLOWED = Reach.of(production=True, allowed_networks=(ip_network("127.0.0.0/8"),))

    def test_over_tls_with_a_certificate_in_its_name_a_backend_is_told(self, authority: Authority) -> None:
        with (
            receiving(SECRET, tls=authority.server(HOST)) as backend,
            posting(self.ALLOWED, look_up=saying(["127.0.0.1"]), authorities=authority.file) as post,
        ):
            url = f"https://{HOST}:{backend.port}/hooks"
            assert [post(url).status, post(url).status] == [200, 200]
            first, second = backend.received
        assert first.client == second.client
        assert first.headers["host"] == f"{HOST}:{backend.port}"
        assert first.genuine

    def test_a_certificate_in_another_name_is_refused(self, authority: Authority) -> None:
        with (
            receiving(SECRET, tls=authority.server("other.example")) as backend,
            posting(self.ALLOWED, look_up=saying(["127.0.0.1"]), authorities=authority.file) as post,
        ):
            assert post(f"https://{HOST}:{backend.port}/hooks").error == "no answer: SSLCertVerificationError"
            assert backend.received == []

    def test_plain_http_is_refused_when_it_is_called_too(self, listener: Listener) -> None:
        with posting(self.ALLOWED) as post:
            answer = post(f"http://127.0.0.1:{listener.port}/hooks?token=hidden")
        assert answer.error == "refused: 127.0.0.1 would be called by plain HTTP"
        assert not listener.was_called()

    def test_metadata_is_refused_whatever_is_allowed(self, listener: Listener) -> None:
        everywhere = Reach.of(production=True, allowed_networks=(ip_network("0.0.0.0/0"), ip_network("::/0")))
        with posting(everywhere) as post:
            for host in (host for kind, host in LITERAL if kind == "metadata"):
                assert (post(f"https://{host}:{listener.port}/").error or "").endswith("is at a metadata address")


class TestSettings:
    @pytest.fixture(autouse=True)
    def _nothing_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PURSER_PRODUCTION", raising=False)
        monkeypatch.delenv("PURSER_WEBHOOK_ALLOWED_NETWORKS", raising=False)

    def post(self, url: str) -> Answer:
        """As the process that is configured so does it."""
        settings, problems = examine(PostingSettings)
        assert settings is not None, problems
        made = webhook_poster(settings, clock=SystemClock())
        with contextlib.closing(made):
            return made.post(MESSAGE, endpoint=WebhookEndpoint(id=EndpointId("backend"), url=url, secret=SECRET))

    def test_on_a_laptop_this_machine_is_told_by_plain_http(self) -> None:
        with receiving(SECRET) as backend:
            assert self.post(backend.url).status == 200

    @pytest.mark.parametrize("host", ["10.0.0.1", "[fe80::1]", "169.254.169.254", "192.168.0.1"])
    def test_on_a_laptop_nothing_else_is_that_production_refuses(self, host: str) -> None:
        assert (self.post(f"http://{host}/").error or "").startswith("refused: ")

    def test_in_production_this_machine_is_refused(self, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PURSER_PRODUCTION", "1")
        answer = self.post(f"https://127.0.0.1:{listener.port}/hooks")
        assert answer.error == "refused: 127.0.0.1 is at a loopback address"
        assert not listener.was_called()

    def test_in_production_what_the_operator_allows_is_called(
        self, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PURSER_PRODUCTION", "1")
        monkeypatch.setenv("PURSER_WEBHOOK_ALLOWED_NETWORKS", " 10.0.0.0/8, 127.0.0.1/32 ,fd00::/8,")
        with pytest.MonkeyPatch.context() as short:
            short.setenv("PURSER_WEBHOOK_CONNECT_TIMEOUT_S", "0.2")
            assert self.post(f"https://127.0.0.1:{listener.port}/hooks").error == "no connection within 0.2 s"
        assert listener.was_called()

    @pytest.mark.parametrize(
        ("listed", "said"),
        [
            ("10.0.0.0/33", "10.0.0.0 is followed by no prefix length that it may have"),
            ("fd00::/8, 10.20.0.5/16", "10.20.0.5/16 has host bits set: its network is 10.20.0.0/16"),
            ("fd00::1/8", "fd00::1/8 has host bits set: its network is fd00::/8"),
            ("10.0.0.0/8, backend.example", "item 2 is no network"),
            ("10.0.0.0/8 fd00::/8", "10.0.0.0 is followed by no prefix length that it may have"),
            ("10.0.0.0/hidden", "10.0.0.0 is followed by no prefix length that it may have"),
            ("hidden", "item 1 is no network"),
        ],
    )
    def test_what_is_no_network_is_refused_with_a_sentence_that_names_it(
        self, listed: str, said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PURSER_WEBHOOK_ALLOWED_NETWORKS", listed)
        settings, (problem,) = examine(PostingSettings)
        assert settings is None
        assert problem.startswith(
            f"PURSER_WEBHOOK_ALLOWED_NETWORKS: {said}; wanted is a comma list of networks such as"
        )
        assert "hidden" not in problem

    def test_the_process_starts_with_what_is_allowed_and_with_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "apps.toml").write_text(apps_text(endpoint("https://10.1.2.3/hooks?token=hidden")))
        monkeypatch.setenv("PURSER_APPS_FILE", str(tmp_path / "apps.toml"))
        monkeypatch.setenv("PURSER_PRODUCTION", "1")
        with pytest.raises(SystemExit):
            apps_with_endpoints(read(EndpointsSettings))
        said = capsys.readouterr().err
        assert "app 'game': webhook 'backend': url may not lead to 10.1.2.3: that is a private address" in said
        assert "hidden" not in said
        monkeypatch.setenv("PURSER_WEBHOOK_ALLOWED_NETWORKS", "10.1.0.0/16")
        assert len(list(apps_with_endpoints(read(EndpointsSettings)))) == 1

    def test_what_is_allowed_is_no_problem_when_the_process_starts(self) -> None:
        apps = apps_with(endpoint("https://10.1.2.3/hooks"))
        (problem,) = endpoint_problems(apps, production=True)
        assert "PURSER_WEBHOOK_ALLOWED_NETWORKS" in problem
        allowed = (ip_network("10.0.0.0/8"),)
        assert endpoint_problems(apps, production=True, allowed_networks=allowed) == []
        (metadata,) = endpoint_problems(
            apps_with(endpoint("https://169.254.169.254/")),
            production=True,
            allowed_networks=(ip_network("0.0.0.0/0"),),
        )
        assert "PURSER_WEBHOOK_ALLOWED_NETWORKS" not in metadata
