"""`leeward keys` as its user runs it, and the errors that it ends with."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chalicelib.adapters.clock import SystemClock
from chalicelib.adapters.folder.store import FolderObjectStore
from chalicelib.adapters.sealing.key_ring import KeyRing
from chalicelib.adapters.sealing.offline_keys import (
    OfflinePrivateKey,
    OfflinePublicKey,
    create_key_pair,
    make_passphrase,
)
from chalicelib.adapters.sealing.store import SealedStore
from chalicelib.errors import BadInput
from tests.commands import ARTIST, run
from tests.fakes_keys import GOLDEN, PASSPHRASE, PRIVATE_PEM, PUBLIC_PEM

PRIVATE, PUBLIC = GOLDEN / "offline-private.pem", GOLDEN / "offline-public.pem"
GIVEN = OfflinePublicKey(PUBLIC_PEM).name
LOCATION = "gcs/db"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    store = FolderObjectStore(tmp_path / "copy")
    ring = KeyRing(store, LOCATION, clock=SystemClock(), recipients=[OfflinePublicKey(PUBLIC_PEM)])
    SealedStore(store, ring).put("object", b"data")
    return tmp_path / "copy"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return create_key_pair(tmp_path_factory.mktemp("pair"), "another passphrase")


def read(copy: Path, pem: bytes, passphrase: str) -> bytes:
    store = FolderObjectStore(copy)
    opener = OfflinePrivateKey(pem, passphrase)
    return SealedStore(store, KeyRing(store, LOCATION, clock=SystemClock(), openers=[opener])).get(
        "object"
    )


def code_of(done: subprocess.CompletedProcess[str]) -> str:
    found = re.search(r"^ERROR \[([a-z-]+)\]: .+\nHINT: .+", done.stderr)
    assert found, done.stdout + done.stderr
    return found[1]


def in_json(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def test_a_pair_is_made_once_and_opens_what_is_wrapped_for_it(tmp_path: Path) -> None:
    made = in_json(run("keys", "create", "--out", tmp_path / "new", "--format", "json"))
    private, public = Path(made["private_key"]), Path(made["public_key"])
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    opener = OfflinePrivateKey(private.read_bytes(), made["passphrase"])
    assert opener.name == OfflinePublicKey(public.read_bytes()).name == made["recipient"]
    before = private.read_bytes()
    again = run("keys", "create", "--out", tmp_path / "new")
    assert (again.returncode, code_of(again)) == (2, "exists")
    private.unlink()
    assert code_of(run("keys", "create", "--out", tmp_path / "new")) == "exists"
    assert not private.exists()
    assert before != public.read_bytes()


def test_the_private_half_is_nothing_without_its_passphrase(tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text("correct horse battery staple\n")
    done = run("keys", "create", "--out", tmp_path, "--passphrase-file", tmp_path / "passphrase")
    assert done.returncode == 0
    assert "correct horse" not in done.stdout
    pem = (tmp_path / "offline-private.pem").read_bytes()
    assert OfflinePrivateKey(pem, "correct horse battery staple").name in done.stdout
    with pytest.raises(BadInput) as caught:
        OfflinePrivateKey(pem, "correct horse battery stapl")
    assert caught.value.instance_code == "wrong-passphrase"


def test_a_passphrase_that_is_made_cannot_be_guessed() -> None:
    made = {make_passphrase() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch("([a-z2-7]{4}-){5}[a-z2-7]{4}", it) for it in made)


def test_a_short_passphrase_is_refused(tmp_path: Path) -> None:
    (tmp_path / "passphrase").write_text("secret")
    done = run("keys", "create", "--out", tmp_path, "--passphrase-file", tmp_path / "passphrase")
    assert code_of(done) == "weak-passphrase"
    assert not (tmp_path / "offline-private.pem").exists()


def test_who_can_open_a_copy(copy: Path) -> None:
    done = run("keys", "show", "--store", copy)
    assert done.returncode == 0
    assert re.search(rf"not tried +{GIVEN}", done.stdout)
    assert f"of {LOCATION}" in done.stdout


def test_a_private_key_is_tried_on_every_data_key(copy: Path) -> None:
    words = ("keys", "show", "--store", copy, "--private-key", PRIVATE)
    done = run(*words, stdin=PASSPHRASE + "\n")
    assert done.returncode == 0
    assert re.search(rf"opens +{GIVEN}", done.stdout)
    wrong = run(*words, stdin="something else\n")
    assert (wrong.returncode, code_of(wrong)) == (2, "wrong-passphrase")


def test_a_key_that_opens_nothing_is_no_success(copy: Path, pair: tuple[Path, Path]) -> None:
    done = run(
        "keys", "show", "--store", copy, "--private-key", pair[0], stdin="another passphrase\n"
    )
    assert done.returncode == 1
    assert "opens" not in done.stdout
    # Asked to open it with KMS, where no KMS key could: nothing was opened.
    assert run("keys", "show", "--store", copy, "--kms").returncode == 1


def test_a_data_key_that_was_exchanged_is_shown_as_such(copy: Path) -> None:
    [path] = (copy / "keys").iterdir()
    store = FolderObjectStore(copy)
    KeyRing(
        store, LOCATION, clock=SystemClock(), recipients=[OfflinePublicKey(PUBLIC_PEM)]
    ).rotate()
    [other] = set((copy / "keys").iterdir()) - {path}
    path.write_text(other.read_text().replace(other.stem, path.stem))
    words = ("keys", "show", "--store", copy, "--private-key", PRIVATE, "--format", "json")
    done = run(*words, stdin=PASSPHRASE)
    assert done.returncode == 1
    checks = {it["key_id"]: it["checks"][0] for it in in_json(done)["key_sets"]}
    assert "wrong-key" in checks[path.stem]["found"]
    assert checks[other.stem]["ok"]


def test_recipients_are_exchanged_and_no_object_is(copy: Path, pair: tuple[Path, Path]) -> None:
    before = (copy / "object").read_bytes()
    words = (
        "keys", "rewrap", "--store", copy, "--location", LOCATION, "--recipient", pair[1],
        "--private-key", PRIVATE,
    )  # fmt: skip
    dry = run(*words, "--dry-run", stdin=PASSPHRASE)
    assert "nothing was changed" in dry.stdout
    assert f"remove  {GIVEN}" in dry.stdout
    assert read(copy, PRIVATE_PEM, PASSPHRASE) == b"data"
    done = run(*words, "--format", "json", stdin=PASSPHRASE)
    assert (done.returncode, in_json(done)["left"]) == (0, [])
    assert (copy / "object").read_bytes() == before
    assert read(copy, pair[0].read_bytes(), "another passphrase") == b"data"
    shown = run("keys", "show", "--store", copy, "--private-key", PRIVATE, stdin=PASSPHRASE)
    assert shown.returncode == 1
    assert GIVEN not in shown.stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--recipient", "alias/leeward"), "file-unreadable"),
        (("--recipient", "arn:aws:kms:us-east-1:1:alias/a"), "not-a-key-arn"),
        (("--recipient", PRIVATE), "not-an-offline-key"),
        (("--recipient", PUBLIC, "--location", "azure/db"), "other-location"),
        (("--recipient", PUBLIC, "--store", "/nowhere"), "no-key-sets"),
        (("--recipient", PUBLIC, "--private-key", PUBLIC), "not-an-offline-key"),
        ((), "bad-usage"),
    ],
)
def test_what_cannot_be_rewrapped(copy: Path, words: tuple[str | Path, ...], code: str) -> None:
    before = {path: path.read_bytes() for path in (copy / "keys").iterdir()}
    done = run("keys", "rewrap", "--store", copy, "--location", LOCATION, *words)
    assert code_of(done) == code
    assert {path: path.read_bytes() for path in (copy / "keys").iterdir()} == before


def test_an_update_of_nothing_is_said(tmp_path: Path) -> None:
    """A person who has just changed a key of the plan would take silence for all being well."""
    key = "      key: { service: aws-kms, regions: [us-east-1] }\n"
    plan = tmp_path / "plan.yaml"
    plan.write_text(ARTIST.read_text().replace(key, "", 1))
    done = run("keys", "update", plan, "--without-aws")
    assert (done.returncode, code_of(done)) == (2, "nothing-sealed")
