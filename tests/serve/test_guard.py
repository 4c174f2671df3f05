"""Who may ask, and how long a request may take."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from streetrecall import cli
from streetrecall.errors import UserError
from streetrecall.serve.command import access_of, listen, run
from streetrecall.serve.guard import COOKIE, Access, Limits
from streetrecall.serve.service import create

TOKEN = "a token of some length"


@contextmanager
def running(limits: Limits, access: Access | None = None) -> Iterator[int]:
    """The service in this process, for as long as the block; yields its port."""
    ready, servers = threading.Event(), []
    sock = listen("127.0.0.1", 0)
    arguments = (create(None, None, access or Access(), limits), sock, limits, lambda _: ready.set(), servers.append)
    thread = threading.Thread(target=run, args=arguments, daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield sock.getsockname()[1]
    finally:
        servers[0].should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@contextmanager
def client(access: Access) -> Iterator[httpx.Client]:
    with running(Limits(), access) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as asking:
        yield asking


def test_without_the_token_only_the_page_and_the_health_are_answered():
    with client(Access(TOKEN)) as asking:
        assert asking.get("/").status_code == asking.get("/healthz").status_code == 200
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": TOKEN},
            {"cookie": f"{COOKIE}={TOKEN}"},
        ):
            refused = asking.get("/api/about", headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Bearer")
        assert asking.get("/api/about", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_the_token_is_exchanged_for_a_cookie_that_does_not_tell_it():
    with client(Access(TOKEN)) as asking:
        assert asking.post("/api/session", json={"token": "wrong"}).status_code == 401
        assert asking.get("/api/about").status_code == 401
        given = asking.post("/api/session", json={"token": TOKEN}, headers={"x-forwarded-proto": "https"})
        assert given.status_code == 204
        words = given.headers["set-cookie"].lower()
        assert all(word in words for word in ("httponly", "samesite=strict", "secure"))
        assert TOKEN not in words
        value = given.headers["set-cookie"].split(";")[0]
        assert asking.get("/api/about", headers={"cookie": value}).status_code == 200


@pytest.mark.parametrize("options", [["--host", "0.0.0.0"], ["--name", "places.example.org"], ["--token", "short"]])
def test_others_are_served_only_with_a_token_that_cannot_be_guessed(options, monkeypatch, capsys):
    monkeypatch.delenv("STREETRECALL_TOKEN", raising=False)
    assert cli.main(["serve", "--port", "0", *options]) == 2
    assert "token" in capsys.readouterr().err


def test_the_log_handlers_of_the_process_stay_open():
    """Uvicorn closes them by default; that of absl, which TensorFlow uses, closes the stream of errors too."""
    closed = []

    class Handler(logging.Handler):
        def close(self) -> None:
            closed.append(self)
            super().close()

    handler = Handler()
    with running(Limits()):
        pass
    assert handler not in closed


def test_names_of_this_host_are_those_that_were_given():
    access = access_of("0.0.0.0", ["Places.Example.org"], TOKEN)
    assert access.names >= {"0.0.0.0", "places.example.org", "localhost", "127.0.0.1"}
    with client(access) as asking:
        assert asking.get("/healthz", headers={"host": "places.example.org:443"}).status_code == 200
        assert asking.get("/healthz", headers={"host": "example.org"}).status_code == 421
        assert asking.get("/healthz", headers={"host": ""}).status_code == 421


def test_a_folder_without_anything_is_a_message(tmp_path, capsys):
    assert cli.main(["serve", "--project", str(tmp_path), "--port", "0"]) == 2
    assert "neither results nor a bundle" in capsys.readouterr().err


def test_a_port_that_is_taken_is_a_message():
    with listen("127.0.0.1", 0) as sock, pytest.raises(UserError, match="choose another"):
        sock.listen()
        listen("127.0.0.1", sock.getsockname()[1])


def test_without_results_and_bundle_each_address_says_so():
    with client(Access()) as asking:
        assert asking.get("/api/about").json()["bundle"] is None
        assert asking.get("/api/tiles/0/0/0").content == b""
        assert asking.get("/api/pictures/crops-1").status_code == 404
        assert asking.post("/api/locate", files={"photos": b"x"}).status_code == 503


def answer(port: int, data: bytes) -> tuple[bytes, float]:
    """What comes back for ``data``, and after how many seconds the service closes the connection."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        sock.sendall(data)
        return sock.makefile("rb").read(), time.perf_counter() - began


def test_what_comes_too_slowly_is_given_up():
    head = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    post = head + b"Content-Length: 99\r\n\r\n{"
    with running(Limits(body_grace_s=0.3, header_s=0.3)) as port:
        body, seconds = answer(port, post)
        assert body.startswith(b"HTTP/1.1 408")
        assert 0.2 < seconds < 10
        headers, seconds = answer(port, b"GET / HT")
        assert headers == b""
        assert 0.2 < seconds < 10


def test_a_body_of_unknown_length_is_cut_off():
    chunk = b"%x\r\n" % 6000 + bytes(6000) + b"\r\n"
    head = b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with running(Limits()) as port:
        assert answer(port, head + 3 * chunk)[0].startswith(b"HTTP/1.1 413")
