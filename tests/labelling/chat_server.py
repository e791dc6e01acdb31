"""A chat endpoint on this machine that answers as it is told, and remembers what it was asked."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tilth.labelling.chat import Chat, Clock, Endpoint

KEY = "sk-very-secret"
BEGIN = datetime(2026, 5, 31, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Reply:
    """What the server does with a request: `body` None closes the connection without a word."""

    body: object = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


def says(content: object, usage: dict[str, int] | None = None, **message: object) -> Reply:
    """A completion with this content; an object is written as JSON."""
    text = content if isinstance(content, str) or content is None else json.dumps(content)
    return Reply({"choices": [{"message": {"role": "assistant", "content": text, **message}}],
                  **({"usage": usage} if usage else {})})  # fmt: skip


def grade(number: object, reason: object = "Because.", usage: dict[str, int] | None = None) -> Reply:
    """A completion that grades."""
    return says({"reason": reason, "grade": number}, usage)


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def user(self) -> str:
        return next(m["content"] for m in self.body["messages"] if m["role"] == "user")


class ChatServer:
    """Answers with `replies` in their order, the last again and again; one may be made of the request."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self.replies: list[Reply | Callable[[Asked], Reply]] = [grade(2)]
        self.asked: list[Asked] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def reply(self, asked: Asked) -> Reply:
        with self.lock:
            self.asked.append(asked)
            reply = self.replies[min(len(self.asked), len(self.replies)) - 1]
        return reply if isinstance(reply, Reply) else reply(asked)


@contextmanager
def serving() -> Iterator[ChatServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.at_once += 1
                server.most_at_once = max(server.most_at_once, server.at_once)
            reply = server.reply(Asked(self.path, dict(self.headers), body))
            time.sleep(reply.delay)
            with server.lock:
                server.at_once -= 1
            self.answer(reply)

        def answer(self, reply: Reply) -> None:
            if reply.body is None:
                self.close_connection = True
                return
            data = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
            try:
                self.send_response(reply.status)
                for name, value in {**reply.headers, "Content-Length": str(len(data.encode()))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data.encode())
            except OSError:  # whoever asked has not waited
                self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    server = ChatServer(listening.server_address[1])
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


class FakeTime:
    """A clock that sleeping moves, and nothing else; chance is always `chance`."""

    def __init__(self, chance: float = 0.0) -> None:
        self.elapsed, self.slept, self.chance = 0.0, [], chance

    def sleep(self, stopped: threading.Event, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.elapsed += seconds

    @property
    def clock(self) -> Clock:
        return Clock(
            seconds=lambda: self.elapsed,
            sleep=self.sleep,
            random=lambda: self.chance,
            now=lambda: BEGIN + timedelta(seconds=self.elapsed),
        )


def connect(server: ChatServer, faked: FakeTime | None = None, **options: object) -> Chat:
    """A connection to the server, on a false clock."""
    settings = {"key": KEY, "timeout": 5.0, **options}
    return Chat(Endpoint(server.url, "judge-1", **settings), (faked or FakeTime()).clock)
