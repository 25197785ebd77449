"""The peers of the figures: PostgreSQL's own copy, barman-cloud, pgBackRest; each as its
documentation tells, on the same server and the same store."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from bench.lab import BARMAN, BUCKET, Cluster, Store, peer


@dataclass(frozen=True)
class Barman:
    """barman-cloud with lz4 and two jobs. It reads the data folder, so it runs beside it."""

    source: Cluster
    store: Store
    name: str = "barman"

    @property
    def _where(self) -> list[str]:
        return ["--endpoint-url", self.store.http, f"s3://{BUCKET}/{self.name}", "pg"]

    @property
    def environment(self) -> dict[str, str]:
        return {**self.store.environment, "PGPASSWORD": "secret", "HOME": "/tmp"}

    def back_up(self) -> list[str]:
        server = ["-h", "127.0.0.1", "-p", str(self.source.port), "-U", "postgres"]
        options = ["--immediate-checkpoint", "--lz4", "-J", "2"]
        return [str(peer(BARMAN, "barman-cloud-backup")), *options, *server, *self._where]

    def archive_command(self) -> str:
        program = peer(BARMAN, "barman-cloud-wal-archive")
        return f"{self._exports()} {program} {' '.join(self._where)} %p"

    def restore(self, folder: Path) -> list[str]:
        program = str(peer(BARMAN, "barman-cloud-restore"))
        return [program, *self._where, "last", str(folder)]

    def restore_command(self) -> str:
        program = peer(BARMAN, "barman-cloud-wal-restore")
        return f'{self._exports()} {program} {" ".join(self._where)} %f "%p"'

    def _exports(self) -> str:
        return "env " + " ".join(f"{k}={v}" for k, v in self.store.environment.items())


@dataclass(frozen=True)
class PgBackRest:
    """pgBackRest with zstd 1 and two processes, over TLS, which it demands of S3."""

    source: Cluster
    store: Store

    @staticmethod
    def here() -> bool:
        return shutil.which("pgbackrest") is not None

    @property
    def _config(self) -> Path:
        return self.source.folder / "pgbackrest.conf"

    def configure(self) -> None:
        folder = self.source.folder / "pgbackrest"
        folder.mkdir()
        settings = {
            "repo1-type": "s3", "repo1-path": "/pgbackrest", "repo1-s3-bucket": BUCKET,
            "repo1-s3-endpoint": "127.0.0.1", "repo1-storage-port": str(self.store.https_port),
            "repo1-s3-uri-style": "path", "repo1-s3-region": "us-east-1",
            "repo1-s3-key": self.store.key, "repo1-s3-key-secret": self.store.secret,
            "repo1-storage-verify-tls": "n", "repo1-retention-full": "100",
            "compress-type": "zst", "compress-level": "1", "process-max": "2",
            "start-fast": "y", "lock-path": str(folder), "spool-path": str(folder),
            "log-level-file": "off",
        }  # fmt: skip
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        stanza = (
            f"[pg]\npg1-path={self.source.data}\npg1-port={self.source.port}\n"
            f"pg1-socket-path={self.source.folder}\npg1-user=postgres\n"
        )
        self._config.write_text("[global]\n" + "".join(lines) + stanza)
        self.source.account.own(folder)

    def command(self, *words: str) -> list[str]:
        return ["pgbackrest", f"--config={self._config}", "--stanza=pg", *words]

    def archive_command(self) -> str:
        return " ".join(self.command("archive-push", "%p"))


def plain_backup(source: Cluster, folder: Path) -> list[str]:
    """PostgreSQL's own backup to a local disk: the limit."""
    return [
        str(source.binaries.tool("pg_basebackup")), "-D", str(folder), "-Fp", "-X", "none",
        "-c", "fast", "--no-sync", "-d", source.dsn,
    ]  # fmt: skip
