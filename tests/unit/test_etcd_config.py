from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kvstore.etcd_config import EtcdConfig
from model.errors import InvalidInput


@pytest.fixture
def pem(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = (
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout {key} -out {cert}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return cert, key


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        ("http://127.0.0.1:2379", "127.0.0.1:2379"),
        ("http://127.0.0.9:1/", "127.0.0.9:1"),
        ("http://localhost:2379", "localhost:2379"),
        ("http://[::1]:2379", "[::1]:2379"),
        ("http://127.0.0.1", "127.0.0.1:2379"),
    ],
)
def test_plain_http_to_the_own_host_is_accepted(endpoint: str, target: str) -> None:
    config = EtcdConfig(endpoints=(endpoint,))

    assert config.targets == (target,)
    assert not config.secure


@pytest.mark.parametrize(
    "endpoint", ["http://192.0.2.1:2379", "http://etcd:2379", "http://[2001:db8::1]:2379", "http://localhost.example:1"]
)
def test_plain_http_to_another_host_is_refused_unless_allowed_by_name(endpoint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        EtcdConfig(endpoints=("http://127.0.0.1:2379", endpoint))

    for word in (endpoint, "https", "ETCD_CA", "ETCD_CERT", "ETCD_KEY", "ETCD_ALLOW_PLAINTEXT=true"):
        assert word in str(caught.value)
    assert EtcdConfig(endpoints=(endpoint,), allow_plaintext=True).endpoints == (endpoint,)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "127.0.0.1:2379",
        "etcd",
        "//127.0.0.1:2379",
        "tcp://127.0.0.1:2379",
        "http://",
        "http://:2379",
        "http://127.0.0.1:0",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:port",
        "http://127.0.0.1:2379/v3",
        "http://127.0.0.1:2379?x=1",
        "http://user:word@127.0.0.1:2379",
        "http://127.0.0.1:2379,http://127.0.0.1:2380",
        "http://127.0.0.1 :2379",
        "http://[::1:2379",
    ],
)
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(InvalidInput, match="ETCD_ENDPOINTS"):
        EtcdConfig(endpoints=(endpoint,), allow_plaintext=True)


def test_no_endpoint_at_all_is_refused() -> None:
    with pytest.raises(InvalidInput, match="ETCD_ENDPOINTS"):
        EtcdConfig(endpoints=())


def test_tls_is_taken_from_the_files(pem: tuple[Path, Path]) -> None:
    cert, key = pem

    config = EtcdConfig(endpoints=("https://192.0.2.1:2379",), ca=cert, cert=cert, key=key)

    assert config.secure


def test_https_without_an_authority_is_refused() -> None:
    with pytest.raises(InvalidInput, match="ETCD_CA"):
        EtcdConfig(endpoints=("https://192.0.2.1:2379",))


def test_tls_files_with_a_plain_endpoint_are_refused(pem: tuple[Path, Path]) -> None:
    with pytest.raises(InvalidInput, match="use https"):
        EtcdConfig(endpoints=("http://127.0.0.1:2379",), ca=pem[0])


def test_a_certificate_without_its_key_is_refused(pem: tuple[Path, Path]) -> None:
    with pytest.raises(InvalidInput, match="ETCD_CERT and ETCD_KEY"):
        EtcdConfig(endpoints=("https://192.0.2.1:2379",), ca=pem[0], cert=pem[0])


def test_files_that_cannot_be_used_are_named(pem: tuple[Path, Path], tmp_path: Path) -> None:
    cert = pem[0]
    missing, junk = tmp_path / "missing", tmp_path / "junk"
    junk.write_text("no certificate")
    endpoints = ("https://192.0.2.1:2379",)

    for file in (missing, junk):
        with pytest.raises(InvalidInput, match=f"ETCD_CA.*{file.name}"):
            EtcdConfig(endpoints=endpoints, ca=file)
        with pytest.raises(InvalidInput, match=f"ETCD_KEY.*{file.name}"):
            EtcdConfig(endpoints=endpoints, ca=cert, cert=cert, key=file)


def test_a_time_limit_must_be_positive() -> None:
    with pytest.raises(InvalidInput, match="more than 0"):
        EtcdConfig(endpoints=("http://127.0.0.1:2379",), timeout_s=0)
