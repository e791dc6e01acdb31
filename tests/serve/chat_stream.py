"""A chat endpoint on this machine that streams what it is told to, in the parts that it is told."""

import json
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-very-secret"
_LONGEST_WAIT = 30.0  # seconds for the other side to hang up


@dataclass(frozen=True)
class Reply:
    """What a request is answered with.

    `ending`: whole, `break` (closed without its end) or `hang` (nothing more comes until the other side hangs
    up). `silent`: not even a status comes before that.
    """

    parts: Sequence[bytes] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})
    pause: float = 0.0  # seconds before each part
    again: bool = False  # the last part comes again and again
    ending: str = "whole"
    silent: bool = False


def event(content: object, reason: str | None = None, **more: object) -> bytes:
    """One event of a stream: a piece of text, or whatever the delta's content is."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": reason}
    return data({"id": "c1", "object": "chat.completion.chunk", "choices": [choice], **more})


def data(content: object) -> bytes:
    """One event that holds any JSON, or a text as it is."""
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


DONE = data("[DONE]")


def says(*texts: str, reason: str = "stop") -> Reply:
    """A stream of these pieces that ends as it should."""
    return Reply([data({"choices": [{"index": 0, "delta": {"role": "assistant"}}]}),
                  *map(event, texts), event("", reason), DONE])  # fmt: skip


def refuses(status: int, message: str, **headers: str) -> Reply:
    """A refusal of OpenAI's form."""
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error"}})
    return Reply([body.encode()], status, {"Content-Type": "application/json", **headers})


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def system(self) -> str:
        return next(m["content"] for m in self.body["messages"] if m["role"] == "system")


class ChatServer:
    """Answers with `replies` in their order, the last again and again; one may be made of the request."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self.replies: list[Reply | Callable[[Asked], Reply]] = [says("Yes [1].")]
        self.asked: list[Asked] = []
        self.gone = threading.Semaphore(0)  # released for each client that hung up before the end
        self.lock = threading.Lock()

    def reply(self, asked: Asked) -> Reply:
        with self.lock:
            self.asked.append(asked)
            reply = self.replies[min(len(self.asked), len(self.replies)) - 1]
        return reply if isinstance(reply, Reply) else reply(asked)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    chat: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = self.chat.reply(Asked(self.path, dict(self.headers), body))
        try:
            self._send(reply)
        except OSError:
            self._left()

    def _send(self, reply: Reply) -> None:
        if reply.silent:
            self._wait()
            return
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Transfer-Encoding": "chunked"}.items():
            self.send_header(name, value)
        self.end_headers()
        for part in self._parts(reply):
            time.sleep(reply.pause)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        if reply.ending == "whole":
            self.wfile.write(b"0\r\n\r\n")
        elif reply.ending == "hang":
            self._wait()
        else:
            self.close_connection = True

    def _parts(self, reply: Reply) -> Iterator[bytes]:
        yield from reply.parts
        while reply.again:
            yield reply.parts[-1]

    def _wait(self) -> None:
        readable, _, _ = select.select([self.connection], [], [], _LONGEST_WAIT)
        if readable:
            self._left()
        self.close_connection = True

    def _left(self) -> None:
        self.close_connection = True
        self.chat.gone.release()

    def log_message(self, *_: object) -> None: ...


class _Listening(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # who leaves between two requests is no fault
            super().handle_error(request, address)


@contextmanager
def serving() -> Iterator[ChatServer]:
    """Listen while the block runs."""
    handler = type("Handler", (_Handler,), {})
    listening = _Listening(("127.0.0.1", 0), handler)
    handler.chat = server = ChatServer(listening.server_address[1])
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
