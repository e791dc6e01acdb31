"""API keys in a store: who may call the service, for what, and until when. Secrets are never kept.

A token is `tilth_<key_id>_<secret>`. Of the secret only its SHA-256 is stored: it is 256 random bits, not a
password, so that no list of likely ones can be tried against the hash, and a slow hash would protect nothing
more and cost every request its time.
"""

import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from tilth.errors import InputError
from tilth.store import Store
from tilth.store_schema import KEYS

SCOPES = ("search", "feedback", "write", "judge", "admin")
MAX_NAME = 100  # characters

_ADMIN = "admin"  # implies the other scopes
_ID_BYTES = 6  # written as 12 hexadecimal digits
_SECRET_BYTES = 32  # written as 43 characters
_ID = re.compile(r"[0-9a-f]{12}")
_TOKEN = re.compile(rf"tilth_({_ID.pattern})_([A-Za-z0-9_-]{{43}})")
_TOKEN_LENGTH = 62
_NO_HASH = bytes(32)  # what an unknown key is compared with; no secret with this SHA-256 is known
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key; all times are aware, in UTC."""

    key_id: str
    name: str
    scopes: frozenset[str]  # of `SCOPES`, as they were given
    created: datetime
    expires: datetime | None  # None: never
    revoked: datetime | None  # None: it is not

    @property
    def ordered_scopes(self) -> list[str]:
        """The scopes in the order of `SCOPES`."""
        return [scope for scope in SCOPES if scope in self.scopes]

    def allows(self, scope: str) -> bool:
        """Return whether the key was given a scope, or admin."""
        return scope in self.scopes or _ADMIN in self.scopes

    def valid_at(self, time: datetime) -> bool:
        """Return whether the key was not revoked, and is not expired at a time (aware)."""
        return self.revoked is None and (self.expires is None or time < self.expires)


class KeyLog:
    """The keys of a store; threads may share it. Methods raise StoreError if the database fails."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, name: str, scopes: Collection[str], expires: datetime | None = None) -> tuple[Key, str]:
        """Make a key; when this returns, it survives a power failure.

        Args:
            name: who or what uses it: at most 100 printable characters, not empty. Names may repeat.
            scopes: at least one of `SCOPES`.
            expires: aware, in the future; None: never.

        Returns:
            The key, and its token, which nobody can be shown again.

        Raises:
            InputError: a name, scope or time is none of these.
        """
        now = datetime.now(UTC)
        _check(name, scopes, expires, now)
        expires = None if expires is None else expires.astimezone(UTC)
        key = Key(secrets.token_hex(_ID_BYTES), name, frozenset(scopes), now, expires, None)
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        with self._store.transaction() as connection:
            connection.execute(insert(KEYS), _row(key, secret))
        return key, f"tilth_{key.key_id}_{secret}"

    def revoke(self, key_id: str) -> Key:
        """Revoke a key for good; one that is revoked keeps the time at which it was.

        Args:
            key_id: of the key.

        Returns:
            The key as it is now.

        Raises:
            InputError: there is no such key.
        """
        if _ID.fullmatch(key_id) is None:
            raise _no_key(key_id)
        with self._store.transaction() as connection:
            connection.execute(_REVOKE, {"id": key_id, "time": _microseconds(datetime.now(UTC))})
            row = connection.execute(_ONE, {"id": key_id}).one_or_none()
        if row is None:
            raise _no_key(key_id)
        return _key(row)

    def keys(self) -> list[Key]:
        """Return all keys, the revoked and expired ones too, the oldest first."""
        with self._store.engine.connect() as connection:
            return [_key(row) for row in connection.execute(_ALL)]

    def any_created(self) -> bool:
        """Return whether a key was ever created; a revoked one was."""
        with self._store.engine.connect() as connection:
            return connection.execute(_ANY).first() is not None

    def find(self, token: str, now: datetime) -> Key | None:
        """Return the key of a token, after the same work whether the id is unknown or the secret is wrong.

        Args:
            token: as somebody sent it; of any length and content.
            now: the time at which it has to be valid; aware.

        Returns:
            The key; None if the token is malformed, unknown, revoked or expired.
        """
        parts = _parts(token)
        if parts is None:
            return None
        key_id, secret = parts
        with self._store.engine.connect() as connection:
            row = connection.execute(_ONE, {"id": key_id}).one_or_none()
        same = compare_digest(_hash(secret), _NO_HASH if row is None else bytes(row.hash))
        if row is None or not same:
            return None
        key = _key(row)
        return key if key.valid_at(now) else None


def is_token(text: str) -> bool:
    """Return whether a text has the form of a token, without asking whether there is such a key."""
    return _parts(text) is not None


_K = KEYS.c
_ONE = select(KEYS).where(_K.key_id == bindparam("id"))
_ALL = select(KEYS).order_by(_K.created, _K.key_id)
_ANY = select(_K.key_id).limit(1)
_REVOKE = (
    update(KEYS).where(_K.key_id == bindparam("id"), _K.revoked.is_(None)).values(revoked=bindparam("time"))
)


def _check(name: str, scopes: Collection[str], expires: datetime | None, now: datetime) -> None:
    if not (name.strip() and name.isprintable() and len(name) <= MAX_NAME):
        remedy = f"Give 1 to {MAX_NAME} printable characters that say who uses the key"
        raise InputError("is no name of a key", field="name", value=name, remedy=remedy)
    there = f"There are {', '.join(SCOPES)}; admin implies the others"
    if not scopes:
        raise InputError("a key needs at least one scope", field="scopes", remedy=there)
    for scope in scopes:
        if scope not in SCOPES:
            raise InputError("there is no such scope", field="scopes", value=scope, remedy=there)
    if expires is not None and (expires.utcoffset() is None or expires <= now):
        raise InputError(
            "a key expires in the future", field="expires", value=expires.isoformat(),
            remedy=f"Give a time with its zone, after {now.isoformat(timespec='seconds')}",
        )  # fmt: skip


def _no_key(key_id: str) -> InputError:
    remedy = "Those there are: tilth key list"
    return InputError("there is no such key", field="key_id", value=key_id, remedy=remedy)


def _parts(token: str) -> tuple[str, str] | None:
    """Return the id and the secret of a token; None if it is malformed."""
    match = _TOKEN.fullmatch(token) if len(token) == _TOKEN_LENGTH else None  # a long one costs nothing
    return None if match is None else (match[1], match[2])


def _hash(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // _MICROSECOND


def _time(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND


def _row(key: Key, secret: str) -> dict[str, object]:
    return {
        "key_id": key.key_id,
        "name": key.name,
        "hash": _hash(secret),
        "scopes": " ".join(key.ordered_scopes),
        "created": _microseconds(key.created),
        "expires": None if key.expires is None else _microseconds(key.expires),
        "revoked": None,
    }


def _key(row: Any) -> Key:  # noqa: ANN401 - a row of the query
    expires, revoked = (None if time is None else _time(time) for time in (row.expires, row.revoked))
    scopes = frozenset(row.scopes.split())
    return Key(row.key_id, row.name, scopes, _time(row.created), expires, revoked)
