"""What a failure proves: each line of the table in core/http.py, over real sockets."""

import gzip
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import core.http
from core.errors import OutcomeUnknownError, PermanentError, TransientError
from core.http import BYTES_MAX, RETRY_AFTER_MAX, CredentialsRefusedError, HttpClient, RefusedError, Reply
from local.http_server import Answer, Asked, HttpServer
from local.server import HOST, free_port

SECRET = "sk_live_never_shown"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

Act = Callable[[socket.socket], None]


@contextmanager
def serving(act: Act) -> Iterator[str]:
    """A server that does this with each connection, and closes it. Its URL."""
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=run, args=(connection,), daemon=True).start()

        def run(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                act(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://{HOST}:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextmanager
def answering(answer: Callable[[Asked], Answer] | Answer) -> Iterator[str]:
    with HttpServer(answer if callable(answer) else lambda _: answer) as server:
        yield f"http://{HOST}:{server.port}"


def client(url: str, **limits: Any) -> HttpClient:
    return HttpClient(url, headers={"Authorization": f"Bearer {SECRET}"}, **limits)


def send(url: str, **limits: Any) -> Reply:
    """Something that moves money."""
    return client(url, **limits).send(
        "POST", "/payouts", params={"token": SECRET}, content=SECRET.encode(), headers={"X-Key": SECRET}
    )


def read(url: str, **limits: Any) -> Reply:
    return client(url, **limits).read("/payouts", params={"token": SECRET})


def whole_request(connection: socket.socket) -> None:
    """Read it: head, and as much of a body as it announces."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += connection.recv(65_536)
    head, _, body = got.partition(b"\r\n\r\n")
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    missing = int(lengths[0].split(b":")[1]) - len(body) if lengths else 0
    while missing > 0:
        missing -= len(connection.recv(65_536))


def hang_up(connection: socket.socket) -> None:
    """With most of the request unread."""
    connection.recv(1)


def reset(connection: socket.socket) -> None:
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


# --- it did not get there ---------------------------------------------------------------------------------------------


def not_sent(url: str, **limits: Any) -> None:
    for ask in (send, read):
        with pytest.raises(TransientError, match="can't be reached"):
            ask(url, **limits)


def test_nobody_listens() -> None:
    not_sent(f"http://{HOST}:{free_port()}")


def test_the_name_is_unknown() -> None:
    not_sent("http://nobody.invalid")


def test_a_connection_that_is_not_made_in_time() -> None:
    """A listener whose backlog is full drops what comes."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind((HOST, 0))
        listener.listen(0)
        for each in (first, second):
            each.setblocking(False)
            with suppress(BlockingIOError):
                each.connect(listener.getsockname())
        not_sent(f"http://{HOST}:{listener.getsockname()[1]}", connect_timeout=0.2)


def test_tls_is_not_spoken() -> None:
    with serving(lambda connection: connection.sendall(OK)) as url:
        not_sent(url.replace("http:", "https:"))


def test_tls_breaks_off() -> None:
    with serving(lambda connection: None) as url:
        not_sent(url.replace("http:", "https:"))


def test_tls_hangs() -> None:
    def hang(connection: socket.socket) -> None:
        while connection.recv(4096):
            pass

    with serving(hang) as url:
        not_sent(url.replace("http:", "https:"), connect_timeout=0.3)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="nobody here makes a certificate")
def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=IP:{HOST}"]
    subprocess.run(
        ["openssl", *words, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    requests = []

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            requests.append(wrapped.recv(65_536))

    with serving(serve) as url:
        not_sent(url.replace("http:", "https:"))
    assert not any(requests), "our key was told to a stranger"


def test_a_pool_that_is_full() -> None:
    """A hundred requests wait for their answers; one more finds no connection and isn't sent."""
    arrived, answer = threading.Semaphore(0), threading.Event()

    def act(connection: socket.socket) -> None:
        whole_request(connection)
        arrived.release()
        answer.wait(20)
        connection.sendall(OK)

    with serving(act) as url, ThreadPoolExecutor(100) as threads:
        http = client(url, connect_timeout=2)
        busy = [threads.submit(http.send, "POST", "/payouts") for _ in range(100)]
        try:
            assert all(arrived.acquire(timeout=10) for _ in busy)
            with pytest.raises(TransientError, match="PoolTimeout"):
                http.send("POST", "/payouts")
        finally:
            answer.set()
        assert {each.result().status for each in busy} == {200}


@pytest.mark.parametrize(
    "said", ["http://", "ftp://provider.example", "http://[::1", "http://a:99999999", "provider.example/v1", ""]
)
def test_an_address_that_is_none_is_no_passing_trouble(said: str) -> None:
    with pytest.raises(PermanentError, match="the address of a provider"):
        send(said)


def test_a_header_that_can_not_be_sent_is_no_passing_trouble() -> None:
    with pytest.raises(PermanentError, match="can't be asked") as raised:
        client(f"http://{HOST}:1").send("POST", "/payouts", headers={"X-Key": f"{SECRET}é"})
    assert SECRET not in "".join(traceback.format_exception(raised.value))


def test_a_pause_that_is_asked_for() -> None:
    for said, least, most in [
        ("7", 7, 7),
        ("0", 0, 0),
        ("99999999999999999999", 3600, 3600),
        (format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True), 80, 90),
        (format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True), 0, 0),
    ]:
        with answering(Answer(429, b"{}", {"Retry-After": said})) as url:
            for ask in (send, read):
                with pytest.raises(TransientError, match="asks for a pause") as raised:
                    ask(url)
                pause = raised.value.retry_after
                assert pause is not None
                assert timedelta(seconds=least) <= pause <= timedelta(seconds=most)


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "soon"}, {"Retry-After": "-5"}, {"Retry-After": "1.5"}])
def test_a_pause_of_no_length(headers: dict[str, str]) -> None:
    with answering(Answer(429, b"{}", headers)) as url, pytest.raises(TransientError) as raised:
        send(url)
    assert raised.value.retry_after is None


@given(st.text(max_size=60))
@example("Sat, 21 Nov 2026 20:00:00 -0000")
@example("Sat, 21 Nov 99999 20:00:00 GMT")
@example("Sat, 21 Nov 2026 20:00:00 +9999999999")
@example("Sat, 31 Dec 9999 23:59:59 -2359")
@example("1 Jan 1 0:0:0 +2359")
@example("٣")
def test_no_wish_of_a_pause_breaks_anything(said: str) -> None:
    reply = Reply(429, httpx.Headers([(b"Retry-After", said.encode("utf-8", "replace"))]), b"", "POST x")
    pause = core.http._retry_after(reply)
    assert pause is None or timedelta(0) <= pause <= RETRY_AFTER_MAX


# --- it may have been done --------------------------------------------------------------------------------------------


def unknown(url: str, match: str = "", **limits: Any) -> None:
    with pytest.raises(OutcomeUnknownError, match=match):
        send(url, **limits)
    with pytest.raises(TransientError, match=match):
        read(url, **limits)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 408, 409, 500, 502, 503, 504, 520, 599])
def test_answers_that_prove_nothing(status: int) -> None:
    requests: list[Asked] = []

    def answer(asked: Asked) -> Answer:
        requests.append(asked)
        return Answer(status, b"" if status == 304 else b"{}", {"Location": "/elsewhere", "Retry-After": "1"})

    with answering(answer) as url:
        unknown(url, str(status))
    assert [asked.path.partition("?")[0] for asked in requests] == ["/payouts", "/payouts"], (
        "it was followed or tried again"
    )


def test_hanging_up_before_the_request_was_read() -> None:
    with serving(hang_up) as url:
        unknown(url, "gave no whole answer")


def test_resetting_before_the_request_was_read() -> None:
    with serving(reset) as url:
        unknown(url, "gave no whole answer")


def test_hanging_up_after_the_request_was_read() -> None:
    with serving(whole_request) as url:
        unknown(url, "gave no whole answer")


def test_hanging_up_in_the_middle_of_the_answer() -> None:
    def act(connection: socket.socket) -> None:
        whole_request(connection)
        connection.sendall(OK[:-1])

    with serving(act) as url:
        unknown(url, "gave no whole answer")


def test_an_answer_that_is_no_http() -> None:
    def act(connection: socket.socket) -> None:
        whole_request(connection)
        connection.sendall(b"220 mail.example ESMTP\r\n")

    with serving(act) as url:
        unknown(url, "gave no whole answer")


def test_no_answer_in_time() -> None:
    def act(connection: socket.socket) -> None:
        whole_request(connection)
        connection.recv(1)

    with serving(act) as url:
        started = time.monotonic()
        unknown(url, "ReadTimeout", read_timeout=0.2)
        assert time.monotonic() - started < 3


@pytest.mark.parametrize("quick", [0, 10, len(OK) - 2], ids=["from the first byte", "in its head", "in its body"])
def test_an_answer_that_drips_is_over_with_the_time_of_the_whole(quick: int) -> None:
    """Each byte comes within the time of a read; all of them would take for ever."""

    def act(connection: socket.socket) -> None:
        whole_request(connection)
        connection.sendall(OK[:quick].replace(b"Length: 2", b"Length: 999"))
        for _ in range(200):
            time.sleep(0.05)
            connection.sendall(b"H" if quick == 0 else b"1")

    with serving(act) as url:
        started = time.monotonic()
        unknown(url, "gave no whole answer", read_timeout=5, answer_timeout=0.5)
        assert time.monotonic() - started < 4


def test_a_request_that_nobody_reads_is_over_in_time() -> None:
    """So large that it doesn't fit into the sockets' buffers."""

    def act(connection: socket.socket) -> None:
        connection.settimeout(10)
        time.sleep(2)

    with serving(act) as url, pytest.raises(OutcomeUnknownError, match="WriteTimeout"):
        client(url, read_timeout=5, answer_timeout=0.5).send("POST", "/payouts", content=b"x" * 64 * 1024 * 1024)


def test_an_answer_that_is_too_large() -> None:
    with answering(Answer(200, b"1" * (BYTES_MAX + 1))) as url:
        unknown(url, "TooLong")
    with answering(Answer(200, b"1" * BYTES_MAX)) as url:
        assert len(send(url).body) == BYTES_MAX


def test_an_answer_that_is_too_large_unpacked() -> None:
    body = gzip.compress(b" " * (4 * BYTES_MAX))
    assert len(body) < BYTES_MAX // 100
    with answering(Answer(200, body, {"Content-Encoding": "gzip"})) as url:
        unknown(url, "TooLong")


def test_an_answer_that_can_not_be_unpacked() -> None:
    with answering(Answer(200, b"{}", {"Content-Encoding": "gzip"})) as url:
        unknown(url, "gave no whole answer")


NO_JSON = [b"", b"<html>", b"{", b"NaN", b'{"amount": Infinity}', b'{"amount": -Infinity}', b"\xff", b"[" * 100_000,
           b"9" * 5_000]  # fmt: skip


@pytest.mark.parametrize("body", NO_JSON, ids=lambda body: repr(body[:12]))
def test_an_answer_that_is_no_json_proves_nothing(body: bytes) -> None:
    with answering(Answer(200, body)) as url:
        with pytest.raises(OutcomeUnknownError, match="no JSON"):
            send(url).json()
        with pytest.raises(TransientError, match="no JSON"):
            read(url).json()


# --- it was refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 402, 404, 405, 410, 415, 422, 451])
def test_refusals_are_for_good_and_say_what_was_said(status: int) -> None:
    with answering(Answer(status, b'{"code": "BNK001", "owed": 1.10}', {"Retry-After": "3"})) as url:
        for ask in (send, read):
            with pytest.raises(RefusedError, match=f"was refused with {status}") as raised:
                ask(url)
            assert isinstance(raised.value, PermanentError)
            assert raised.value.reply.json() == {"code": "BNK001", "owed": "1.10"}


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_not_taken_refuses_a_write_and_answers_no_read(status: int) -> None:
    told: list[int] = []
    with answering(Answer(status, b'{"code": "nobody"}')) as url:
        limits: dict[str, Any] = {"on_credentials_refused": lambda reply: told.append(reply.status)}
        with pytest.raises(RefusedError, match=f"was refused with {status}"):
            send(url, **limits)
        with pytest.raises(CredentialsRefusedError, match=f"was refused with {status}") as raised:
            read(url, **limits)
        assert isinstance(raised.value, TransientError), "the question stays good: a person puts the key right"
        assert raised.value.reply.json() == {"code": "nobody"}
        assert SECRET not in str(raised.value)
    assert told == [status, status]
    with answering(Answer(404, b"{}")) as url, pytest.raises(RefusedError):
        read(url, **limits)
    assert told == [status, status]


# --- it was done ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 206])
def test_success(status: int) -> None:
    with answering(Answer(status, b'{"ok": true}')) as url:
        for ask in (send, read):
            assert (ask(url).status, ask(url).json()) == (status, {"ok": True})


def test_no_amount_is_ever_a_float() -> None:
    body = b'{"a": 0.1, "b": 1e2, "c": -12.50, "d": 12345678901234567890, "e": [3.0], "f": {"g": 1E-7}}'
    with answering(Answer(200, body)) as url:
        said = send(url).json()
    assert said == {"a": "0.1", "b": "1e2", "c": "-12.50", "d": 12345678901234567890, "e": ["3.0"], "f": {"g": "1E-7"}}


def test_what_is_signed_goes_out_byte_for_byte() -> None:
    requests: list[Asked] = []

    def answer(asked: Asked) -> Answer:
        requests.append(asked)
        return Answer(200, b"{}")

    content = b'{"b" :1,\r\n "a":"\xc3\xa9"}  '
    with answering(answer) as url:
        client(url + "/v1/").send("POST", "/payouts", params={"a": "b c"}, content=content, headers={"X-Key": "k"})
        client(url).send("POST", "/payouts", form={"a": "b c"})
    assert (requests[0].body, requests[0].path) == (content, "/v1/payouts?a=b+c")
    assert (requests[0].headers["X-Key"], requests[0].headers["Authorization"]) == ("k", f"Bearer {SECRET}")
    assert requests[1].body == b"a=b+c"


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_nothing_of_a_query_a_header_or_a_body_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in messages nor in tracebacks, logs or what a Reply looks like."""
    caplog.set_level(logging.DEBUG)
    said = [repr(client("http://provider.example"))]
    private = b'{"card": "4929000000000000"}'
    for status in (200, 302, 400, 409, 429, 500):
        with answering(Answer(status, private, {"Set-Cookie": "session=4929000000000000"})) as url:
            for path in ("/payouts", f"/payouts?token={SECRET}"):
                try:
                    said.append(repr(client(url).send("POST", path, params=None, content=SECRET.encode())))
                except (TransientError, OutcomeUnknownError, PermanentError) as error:
                    said += [str(error), repr(error), "".join(traceback.format_exception(error))]
    with serving(reset) as url, pytest.raises(OutcomeUnknownError) as raised:
        send(url)
    said.append("".join(traceback.format_exception(raised.value)))
    with pytest.raises(TransientError) as refused:
        send(f"http://{HOST}:{free_port()}")
    said.append("".join(traceback.format_exception(refused.value)))
    records = [record.getMessage() for record in caplog.records if record.name.startswith(("httpx", "core"))]
    told = "\n".join([*said, *records])
    assert "/payouts" in told
    assert SECRET not in told
    assert "4929000000000000" not in told
