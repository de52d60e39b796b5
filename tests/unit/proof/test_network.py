"""The roads: what goes in comes out, until a road is put into another condition."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shared.clock import SystemClock
from tests.proof.network import PEERS, Network, all_roads, network, road
from tests.proof.proxy import SLOW_S

GATEWAY, LEDGER = road("gateway", "postgres"), road("ledger", "postgres")
WITHIN_S = 10.0
NOTHING_WITHIN_S = 0.3


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    """The port of a server that says what it hears, and hangs up when the other does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server,), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def _accept(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection:
        try:
            while heard := connection.recv(65_536):
                connection.sendall(heard)
        except OSError:
            return


@pytest.fixture(scope="module")
def _roads(echo: int) -> Iterator[Network]:
    with network(dict.fromkeys(PEERS, ("127.0.0.1", echo))) as roads:
        yield roads


@pytest.fixture
def roads(_roads: Network) -> Iterator[Network]:
    yield _roads
    for name in (GATEWAY, LEDGER):
        _roads.put(name, "open")


@contextmanager
def called(roads: Network, name: str = GATEWAY) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", roads.ports[name]), timeout=WITHIN_S) as connection:
        yield connection


def echoed(connection: socket.socket, said: bytes) -> bytes:
    connection.sendall(said)
    return heard(connection, len(said))


def passes(roads: Network) -> bool:
    """Whether a new connection gets its answer. One that is cut is reset at once, or with the first word."""
    try:
        with called(roads) as connection:
            return echoed(connection, b"hello") == b"hello"
    except ConnectionError:
        return False


def heard(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (more := connection.recv(size - len(received))):
        received += more
    return received


def test_what_goes_in_comes_out(roads: Network) -> None:
    said = bytes(range(256)) * 20_000  # more than any buffer on the way
    with called(roads) as connection:
        threading.Thread(target=connection.sendall, args=(said,), daemon=True).start()
        assert heard(connection, len(said)) == said


def test_a_road_that_is_cut_resets_its_connections_and_each_new_one(roads: Network) -> None:
    with called(roads) as connection:
        assert echoed(connection, b"hello") == b"hello"
        roads.put(GATEWAY, "cut")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert not passes(roads)
    roads.put(GATEWAY, "open")
    assert passes(roads)


def test_nothing_moves_through_a_black_hole_and_nothing_is_lost_in_it(roads: Network) -> None:
    with called(roads) as before:
        assert echoed(before, b"hello") == b"hello"
        roads.put(GATEWAY, "blackhole")
        with called(roads) as during:
            for connection in (before, during):
                connection.sendall(b"anybody?")
                connection.settimeout(NOTHING_WITHIN_S)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
            roads.put(GATEWAY, "open")
            for connection in (before, during):
                connection.settimeout(WITHIN_S)
                assert heard(connection, 8) == b"anybody?"


def test_through_a_slow_road_all_comes_later(roads: Network) -> None:
    clock = SystemClock()
    with called(roads) as connection:
        roads.put(GATEWAY, "slow")
        began_s = clock.monotonic()
        assert echoed(connection, b"hello") == b"hello"
        assert clock.monotonic() - began_s >= 2 * SLOW_S  # there and back


def test_what_a_slow_road_still_holds_is_not_overtaken_when_it_is_open_again(roads: Network) -> None:
    with called(roads) as connection:
        roads.put(GATEWAY, "slow")
        assert echoed(connection, b"0") == b"0"
        connection.sendall(b"1")
        roads.put(GATEWAY, "open")
        connection.sendall(b"2")
        assert heard(connection, 2) == b"12"


def test_other_roads_to_the_same_peer_are_left_alone(roads: Network) -> None:
    with called(roads, LEDGER) as connection:
        roads.put(GATEWAY, "cut")
        assert echoed(connection, b"hello") == b"hello"


def test_all_roads_to_a_peer_may_be_cut_at_once(roads: Network) -> None:
    assert road("everybody", "postgres") in all_roads()
    with called(roads, LEDGER) as connection:
        assert echoed(connection, b"hello") == b"hello"
        roads.put(road("everybody", "postgres"), "cut")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    roads.put(road("everybody", "postgres"), "open")


def test_a_url_leads_to_the_same_login_and_path_by_the_processes_own_road(roads: Network) -> None:
    url = roads.url("postgresql://me:secret@10.0.0.1:5432/purser?x=1", "ledger", "postgres")
    assert url == f"postgresql://me:secret@127.0.0.1:{roads.ports[LEDGER]}/purser?x=1"
