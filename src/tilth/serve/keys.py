"""Who is let in: keys are looked up in the store, and what was found is remembered for a few seconds."""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from tilth.errors import StoreError, TilthError
from tilth.key_log import SCOPES, Key, KeyLog, is_token

ANYBODY = Key(
    key_id="",
    name="anybody",
    scopes=frozenset({"admin"}),
    created=datetime(1970, 1, 1, tzinfo=UTC),
    expires=None,
    revoked=None,
)  # stands for who comes without a key while there are none

_REMEMBERED = 1_000  # tokens of keys, and as many others
_GRACE = 60.0  # seconds that what was found goes on while the store cannot be asked


class UnauthenticatedError(TilthError):
    """A request came without a key, or with one that does not open anything."""


class ForbiddenError(TilthError):
    """A request came with a key that was not given `scope`."""

    def __init__(self, scope: str, key: Key) -> None:
        self.scope = scope
        given = ", ".join(key.ordered_scopes)
        super().__init__(
            f"this needs the scope {scope!r}, and the key {key.name!r} ({key.key_id}) has {given}. Send "
            f"another key, or make one: {_command(scope)}"
        )


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


def _command(scope: str) -> str:
    return f"tilth key create INDEX --name NAME --scopes {scope}"


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the store said of a token, and when it was asked, in seconds of the clock."""

    key: Key | None
    asked: float


class Doorkeeper:
    """Admits requests by their tokens; threads may share it, and most admissions ask the store nothing."""

    def __init__(
        self, log: KeyLog, *, seconds: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Remember nothing yet.

        Args:
            log: the keys.
            seconds: how long what it says of a token holds: so soon a revoked key is refused.
            clock: gives seconds, never going back.
        """
        self._log, self._seconds, self._clock = log, seconds, clock
        self._lock = threading.Lock()  # for the next three; never held while the store is asked
        # By the SHA-256 of the token. They are two, so that guesses push out guesses and never keys.
        self._found: OrderedDict[bytes, _Answer] = OrderedDict()  # the one used last stands last
        self._refused: OrderedDict[bytes, _Answer] = OrderedDict()
        self._asking: set[bytes] = set()
        self._opened = -math.inf  # when the store last said that there are no keys
        self._closed = False  # for good: keys are revoked, but never deleted

    def admit(self, token: str | None, scope: str) -> Key:
        """Let a request in, or raise; it may ask the store, so call it where waiting harms nobody.

        Args:
            token: as it was sent; None: none was.
            scope: of `SCOPES`, what the request needs.

        Returns:
            The key; `ANYBODY` where none was sent and none was ever created.

        Raises:
            UnauthenticatedError: a key is needed, or this one is malformed, unknown, revoked or expired.
            ForbiddenError: the key was not given the scope.
            StoreError: the store cannot be asked, and has not been for a minute.
        """
        key = self._admit_anybody(scope) if token is None else self._admit(token, scope)
        self.check(key, scope)
        return key

    def recall(self, token: str | None) -> Key | None:
        """Return what `admit` would find without asking the store, in microseconds; None if it has to ask.

        Args:
            token: as for `admit`.

        Returns:
            The key, or `ANYBODY`, for `check`; None also for a token that `admit` refuses.
        """
        now = self._clock()
        if token is None:
            return ANYBODY if self._is_open(self._seconds, now) else None
        if not is_token(token):
            return None
        with self._lock:
            known = self._remembered(_digest(token), now)
        key = None if known is None else known.key
        return key if key is not None and key.valid_at(datetime.now(UTC)) else None

    def check(self, key: Key, scope: str) -> None:
        """Raise ForbiddenError if a key was not given a scope."""
        assert scope in SCOPES
        if not key.allows(scope):
            raise ForbiddenError(scope, key)

    @property
    def open(self) -> bool:
        """Whether no key was ever created, so that requests need none; as old as `seconds` at most."""
        now = self._clock()
        if self._closed or self._is_open(self._seconds, now):
            return not self._closed
        try:
            created = self._log.any_created()
        except StoreError:
            if self._is_open(_GRACE, self._clock()):
                return True
            raise
        if created:
            self._closed = True
        else:
            self._opened = now
        return not self._closed

    def _is_open(self, longest: float, now: float) -> bool:
        return not self._closed and now - self._opened < longest

    def _admit_anybody(self, scope: str) -> Key:
        if self.open:
            return ANYBODY
        raise UnauthenticatedError(
            "this needs an API key. Send it in the header 'Authorization: Bearer tilth_...', or make one: "
            + _command(scope)
        )

    def _admit(self, token: str, scope: str) -> Key:
        key = self._key(token) if is_token(token) else None
        if key is not None and key.valid_at(datetime.now(UTC)):
            return key
        raise UnauthenticatedError(
            "the key is malformed, unknown, revoked or expired. Send one that is valid, or make one: "
            + _command(scope)
        )

    def _key(self, token: str) -> Key | None:
        """Return the key of a well-formed token, as it is remembered or as the store says now."""
        digest, now = _digest(token), self._clock()
        with self._lock:
            known = self._remembered(digest, now)
            if known is not None:
                return known.key
            self._asking.add(digest)
        try:
            return self._ask(token, digest, now)
        finally:
            with self._lock:
                self._asking.discard(digest)

    def _remembered(self, digest: bytes, now: float) -> _Answer | None:
        """Return what still holds of a token; while another thread asks for it anew, a key holds longer."""
        if digest in self._found:
            self._found.move_to_end(digest)
            longest = _GRACE if digest in self._asking else self._seconds
            return self._found[digest] if now - self._found[digest].asked < longest else None
        refused = self._refused.get(digest)
        return refused if refused is not None and now - refused.asked < self._seconds else None

    def _ask(self, token: str, digest: bytes, now: float) -> Key | None:
        try:
            key = self._log.find(token, datetime.now(UTC))
        except StoreError:
            with self._lock:
                found = self._found.get(digest)
            if found is not None and self._clock() - found.asked < _GRACE:
                return found.key
            raise
        with self._lock:
            self._remember(digest, _Answer(key, now))
        return key

    def _remember(self, digest: bytes, answer: _Answer) -> None:
        before = self._found.get(digest) or self._refused.get(digest)
        if before is not None and before.asked > answer.asked:
            return  # another thread has asked later, and was answered sooner
        self._found.pop(digest, None)
        self._refused.pop(digest, None)
        answers = self._refused if answer.key is None else self._found
        answers[digest] = answer
        if len(answers) > _REMEMBERED:
            answers.popitem(last=False)
