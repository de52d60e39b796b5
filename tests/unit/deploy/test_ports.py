"""Ports: what is said of one that is taken."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator

import pytest

from deploy.errors import PortUnavailable, StackInvalid
from deploy.ports import FixedPort, free_port, is_free, require_free
from shared.ids import system_ids

LOOPBACK = "127.0.0.1"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def test_a_taken_port_is_one_sentence_that_names_it_its_purpose_and_the_way_out(taken: int) -> None:
    gateway = FixedPort(taken, "the gateway", "set PURSER_GATEWAY_PORT to another port")
    with pytest.raises(PortUnavailable) as caught:
        require_free([gateway], bind=LOOPBACK)
    sentence = str(caught.value)
    assert f"Port {taken}, for the gateway, is taken" in sentence
    assert "set PURSER_GATEWAY_PORT to another port" in sentence


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux's /proc tells who listens")
def test_the_holder_of_a_taken_port_is_named(taken: int) -> None:
    with pytest.raises(PortUnavailable, match=rf"\(by .+, process {os.getpid()}\)"):
        require_free([FixedPort(taken, "the gateway", "move it")], bind=LOOPBACK)


def test_a_port_that_two_of_ours_want_is_refused() -> None:
    port = free_port(bind=LOOPBACK, ids=system_ids())
    wanted = [FixedPort(port, "the gateway", "move one"), FixedPort(port, "Flower", "set PURSER_FLOWER_PORT")]
    with pytest.raises(PortUnavailable, match="wanted by both the gateway and Flower: set PURSER_FLOWER_PORT"):
        require_free(wanted, bind=LOOPBACK)


def test_a_listener_with_reuse_port_takes_its_port_all_the_same() -> None:
    """Granian listens so; two of them on one port would share the requests in silence."""
    with socket.create_server((LOOPBACK, 0), reuse_port=True) as server:
        assert not is_free(bind=LOOPBACK, port=server.getsockname()[1])


def test_a_free_port_is_none_of_those_that_were_given_away() -> None:
    ids = system_ids()
    given: set[int] = set()
    for _ in range(50):
        port = free_port(bind=LOOPBACK, ids=ids, besides=given)
        assert port not in given
        assert is_free(bind=LOOPBACK, port=port)
        given.add(port)


def test_an_address_of_another_machine_is_refused_with_the_variable() -> None:
    with pytest.raises(StackInvalid, match="PURSER_BIND"):
        is_free(bind="192.0.2.1", port=1)  # RFC 5737: nobody's
