"""Credentials files, with a broker that knows an operator and an account, and no user."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

import tofu_aio as tofu
from tests.transport.nats.brokers import Broker
from tests.transport.nats.conftest import Start
from tests.transport.nats.test_opening import echoing

nkeys = pytest.importorskip("nkeys", reason="nkeys is not installed: pip install 'tofu-aio[nats]'")


def key(prefix: int) -> tuple[Any, str, bytes]:
    """A new key: the pair, the name that it has in tokens, and its seed."""
    seed = nkeys.encode_seed(os.urandom(32), prefix)
    pair = nkeys.from_seed(bytearray(seed))
    return pair, pair.public_key.decode(), seed


def token(issuer: Any, subject: str, kind: str, **claims: object) -> str:
    """What the issuer says of the subject, with its signature."""
    said = {
        "jti": subject,
        "iat": 1,
        "iss": issuer.public_key.decode(),
        "sub": subject,
        "name": kind,
        "nats": {"type": kind, "version": 2, **claims},
    }
    parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, said]
    text = ".".join(in_base64(json.dumps(part).encode()) for part in parts)
    return f"{text}.{in_base64(issuer.sign(text.encode()))}"


def in_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def written(path: Path, jwt: str, seed: bytes) -> Path:
    """A credentials file, as NATS's tools write it."""
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed.decode()}\n------END USER NKEY SEED------\n"
    )
    return path


@pytest.fixture
def owned(start: Start) -> tuple[Broker, Any]:
    """A broker, and the key of its account, which makes users."""
    operator, operator_name, _ = key(nkeys.PREFIX_BYTE_OPERATOR)
    account, account_name, _ = key(nkeys.PREFIX_BYTE_ACCOUNT)
    unlimited = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1)
    own = start(
        f"operator: {token(operator, operator_name, 'operator')}\n"
        "resolver: MEMORY\n"
        f"resolver_preload: {{ {account_name}: "
        f"{token(operator, account_name, 'account', limits={**unlimited, 'wildcards': True})} }}"
    )
    return own, account


async def test_a_credentials_file_lets_in_and_a_stranger_s_does_not(
    group: tofu.ChannelGroup, owned: tuple[Broker, Any], tmp_path: Path
) -> None:
    own, account = owned
    _, user, seed = key(nkeys.PREFIX_BYTE_USER)
    limits = {"subs": -1, "data": -1, "payload": -1}
    good = written(tmp_path / "good.creds", token(account, user, "user", **limits), seed)
    url = f"{own.url()}?credentials={good}"
    async with echoing(group, url), group.connect(url) as channel:
        assert (await channel.request(b"x")).body == b"x"
        assert str(good) not in f"{channel} {channel.peer}"
    stranger, _, _ = key(nkeys.PREFIX_BYTE_ACCOUNT)
    forged = written(tmp_path / "forged.creds", token(stranger, user, "user", **limits), seed)
    for proof in (f"?credentials={forged}", ""):
        with pytest.raises(tofu.ConnectFailed, match="the broker refuses this user"):
            await group.connect(own.url() + proof)


async def test_what_is_no_credentials_file(
    group: tofu.ChannelGroup, owned: tuple[Broker, Any], tmp_path: Path
) -> None:
    """nats-py alone would look for ever for a token that is not there."""
    broker, _ = owned
    _, _, seed = key(nkeys.PREFIX_BYTE_USER)
    only_seed = f"-----BEGIN USER NKEY SEED-----\n{seed.decode()}\n"
    texts = [only_seed, "", "-----BEGIN NATS USER JWT-----", "SUSECRET", "\udcff"]
    files = [tmp_path / str(number) for number in range(len(texts))]
    for path, text in zip(files, texts, strict=True):
        path.write_bytes(text.encode(errors="surrogateescape"))
    files += [
        written(tmp_path / "no token", "", seed),
        written(tmp_path / "no seed", "token", b""),
        written(tmp_path / "half a seed", "token", seed[:20]),
        written(tmp_path / "no base32", "token", b"SU-SECRET!" + seed[10:]),
    ]
    for path in files:
        with pytest.raises(tofu.ConnectFailed, match="is no credentials file: it needs") as failed:
            await group.connect(f"{broker.url()}?credentials={path}".replace(" ", "%20"))
        assert "SECRET" not in str(failed.value)
        assert seed[:10].decode() not in str(failed.value)
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(tofu.ListenFailed, match=r"cannot be read: \w+ .*: check the path"):
            await group.listen(f"{broker.url()}?credentials={path}")
