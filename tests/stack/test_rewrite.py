"""A container's environment becomes one for a process on this machine."""

from pathlib import Path

from stack.compose import Mount
from stack.rewrite import Address, Rewriting, listen_on, mounted_paths

ADDRESSES = {"postgres": Address(5432, 60001), "litellm": Address(4000, 60002)}


def rewrite(text: str, **paths: Path) -> str:
    return Rewriting(ADDRESSES, {name.replace("_", "/"): path for name, path in paths.items()}).text(text)


def test_hosts_and_ports() -> None:
    assert rewrite("http://litellm:4000/v1") == "http://127.0.0.1:60002/v1"
    assert rewrite("postgresql://litellm:pw@postgres:5432/litellm") == "postgresql://litellm:pw@127.0.0.1:60001/litellm"


def test_what_only_looks_like_an_address_stays() -> None:
    for text in ("litellm:4000", "http://litellm:40001", "http://other-litellm:4000", "postgres"):
        assert rewrite(text) == text


def test_paths_of_mounts_the_longest_first(tmp_path: Path) -> None:
    rewriting = Rewriting({}, {"/etc/app": tmp_path / "a", "/etc/app/data": tmp_path / "b"})
    assert rewriting.text("/etc/app/config.yaml") == f"{tmp_path}/a/config.yaml"
    assert rewriting.text("/etc/app/data/x") == f"{tmp_path}/b/x"
    assert rewriting.text("/etc/application") == "/etc/application"
    assert rewriting.text("/usr/etc/app") == "/usr/etc/app"


def test_listening_on_the_loopback_interface() -> None:
    environment = {"HOST": "0.0.0.0", "PORT": "4000", "OTHER": "1"}  # noqa: S104
    assert listen_on(environment, "HOST", "PORT", 60002) == {"HOST": "127.0.0.1", "PORT": "60002", "OTHER": "1"}


def test_mounts(tmp_path: Path) -> None:
    mounts = [Mount.parse("./conf:/etc/app:ro"), Mount.parse("data:/var/data")]
    paths = mounted_paths(mounts, tmp_path / "repo", tmp_path / "volumes", {})
    assert paths == {"/etc/app": tmp_path / "repo" / "conf", "/var/data": tmp_path / "volumes" / "data"}
    assert (tmp_path / "volumes" / "data").is_dir()
    replaced = mounted_paths(mounts, tmp_path / "repo", tmp_path / "volumes", {"./conf": tmp_path / "mine"})
    assert replaced["/etc/app"] == tmp_path / "mine"
