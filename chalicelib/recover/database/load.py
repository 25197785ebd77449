"""Load a recovered database into the target server under a name of its own, and prove it equal.

    CREATE DATABASE -> marked as this run's -> dump, restore -> contents equal? -> marked as loaded

The mark is the database's comment, {"leeward": {"run_id", "loaded"?}}: the next attempt of the same
run drops what a dead one left half-loaded, and takes what is loaded as it is.

must: nothing is ever dropped that this run did not make.
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from chalicelib.errors import CheckFailed, Damaged, Refused
from chalicelib.ports import Clock, Databases, Session, ToolOutcome
from chalicelib.recover.database.digests import compare_digests, table_digests
from chalicelib.recover.database.loaded import Loaded, stays_outside

LOAD_SECONDS = 800
# NAMEDATALEN - 1 (pg_config_manual.h).
NAME_BYTES = 63
# What a verification that died may have left in the throw-away server.
LEFTOVER_SCHEMA = "leeward_amcheck"
# pg_dump's compression, the best first: a build without zstd refuses it.
COMPRESSIONS = ("zstd:1", "1")


def recovery_name(database: str, suffix: str) -> str:
    """ "nexus", "20261122t084500z" -> "nexus_recovery_20261122t084500z", at most 63 bytes.

    A database that is itself a recovered one does not grow longer names.
    """
    ending = f"_recovery_{suffix}"
    stem = database.split("_recovery_")[0].encode()[: NAME_BYTES - len(ending)]
    return stem.decode(errors="ignore") + ending


def load_database(
    recovered: Databases,
    target: Databases,
    new_name: str,
    *,
    run_id: str,
    folder: Path,
    clock: Clock,
    jobs: int = 2,
) -> Loaded:
    """Copy `recovered.database` to `new_name` on the target, with owners and privileges.

    Args:
        recovered: a superuser's, on the throw-away server; nobody else writes there.
        target: the operator's: CREATEDB, and SET on the roles that own things.
        folder: for the dump; emptied before and after.
    Raises:
        Refused: code "database-exists": a database of that name is not this run's.
        CheckFailed: code "contents-differ", or "load-failed" with PostgreSQL's own words.
        NotReady: a right is missing.
    """
    mark = read_mark(target, new_name)
    if mark and mark.get("run_id") == run_id and "loaded" in mark:
        return Loaded.from_json(mark["loaded"])
    load = _Load(recovered, target, new_name, run_id, folder, jobs)
    started = clock.now()
    load.make_room(mark)
    load.create()
    left_out, tablespaces = load.fill()
    filled = clock.now()
    tables, rows = load.compare()
    seconds = {
        "load": (filled - started).total_seconds(),
        "compare": (clock.now() - filled).total_seconds(),
    }
    subscriptions, slots = stays_outside(recovered, target)
    loaded = Loaded(new_name, tables, rows, left_out, seconds, tablespaces, subscriptions, slots)
    load.mark({"run_id": run_id, "loaded": loaded.to_json()})
    return loaded


def drop_loaded(target: Databases, name: str, *, run_id: str) -> bool:
    """Drop the database that the run loaded; False when there is none of that name.

    Raises Refused (code "not-of-this-run") when it is somebody else's.
    """
    mark = read_mark(target, name)
    with target.admin_session(timeout_seconds=LOAD_SECONDS) as session:
        if not session.query("SELECT 1 FROM pg_database WHERE datname = %s", (name,)):
            return False
        if (mark or {}).get("run_id") != run_id:
            raise Refused(
                f"expected {name} to be of {run_id}, found it of {(mark or {}).get('run_id')}",
                code="not-of-this-run",
                hint="Nothing was dropped; look at who made the database.",
            )
        _run(session, "DROP DATABASE %I WITH (FORCE)", name)
    return True


@dataclass(frozen=True)
class _Load:
    recovered: Databases
    target: Databases
    new_name: str
    run_id: str
    folder: Path
    jobs: int

    def make_room(self, mark: dict[str, Any] | None) -> None:
        """Drop what a dead attempt of this run left; refuse what is anybody else's.

        On a server that cannot drop, it is renamed to leeward_abandoned_... and stays.
        """
        with self.target.admin_session() as session:
            if not session.query("SELECT 1 FROM pg_database WHERE datname = %s", (self.new_name,)):
                return
        if (mark or {}).get("run_id") != self.run_id and not self._is_untouched(mark):
            raise Refused(
                f"expected no database {self.new_name} on the target, found one of "
                f"{(mark or {}).get('run_id', 'somebody else')}",
                code="database-exists",
                hint="Rename or drop it, then start the run again.",
            )
        with self.target.admin_session(timeout_seconds=LOAD_SECONDS) as session:
            try:
                _run(session, "DROP DATABASE %I WITH (FORCE)", self.new_name)
            except Damaged:
                # A drop needs a checkpoint, and a server that misses a file can make none.
                _run(
                    session,
                    "ALTER DATABASE %I RENAME TO %I",
                    self.new_name,
                    f"leeward_abandoned_{uuid4().hex}",
                )

    def create(self) -> None:
        """Marked right after its creation; a death between the two leaves it empty and unmarked.

        The owner comes first: only he may create in the schema public that a dump fills.
        """
        with self.recovered.session(read_only=True) as session:
            [(owner, options)] = session.query(_CREATE_OPTIONS)
        with self.target.admin_session(timeout_seconds=LOAD_SECONDS) as session:
            _run(session, f"CREATE DATABASE %I TEMPLATE template0 {options}", self.new_name)
            self._comment(session, {"run_id": self.run_id})
            _run(session, "ALTER DATABASE %I OWNER TO %I", self.new_name, str(owner))

    def fill(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Dump and restore, but for the extensions that the operator may not create and, where one
        is missing, the tablespaces; returns both."""
        with self.recovered.session() as session:
            session.execute(f"DROP SCHEMA IF EXISTS {LEFTOVER_SCHEMA} CASCADE")
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self._dump()
            tablespaces = self._missing_tablespaces()
            left_out = self._restore(*(["--no-tablespaces"] if tablespaces else []))
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._copy_settings()
        with self.target.session(self.new_name, timeout_seconds=LOAD_SECONDS) as session:
            session.execute("ANALYZE")
        return left_out, tablespaces

    def compare(self) -> tuple[int, int]:
        """Tables and rows, when every table has the same content on both servers."""
        with ThreadPoolExecutor(2) as pool:
            expected = pool.submit(table_digests, self.recovered)
            found = pool.submit(table_digests, self.target, self.new_name)
            differences = compare_digests(expected.result(), found.result())
        if differences:
            raise CheckFailed(
                f"expected equal contents in {self.new_name}, found {len(differences)} "
                f"differences: {'; '.join(differences[:5])}",
                code="contents-differ",
                hint="Nothing was switched; look at the target, then start the run again.",
            )
        digests = expected.result()
        return len(digests), sum(digest.rows for digest in digests.values())

    def mark(self, content: dict[str, Any]) -> None:
        with self.target.admin_session() as session:
            self._comment(session, content)

    def _comment(self, session: Session, content: dict[str, Any]) -> None:
        text = json.dumps({"leeward": content})
        _run(session, "COMMENT ON DATABASE %I IS %L", self.new_name, text)

    def _is_untouched(self, mark: dict[str, Any] | None) -> bool:
        """Made by an attempt that died before it could mark it: ours by name, and empty."""
        if mark is not None:
            return False
        with self.target.session(self.new_name, read_only=True) as session:
            [(comment, objects)] = session.query(_UNTOUCHED)
        return comment is None and objects == 0

    def _dump(self) -> None:
        for compression in COMPRESSIONS:
            shutil.rmtree(self.folder, ignore_errors=True)
            outcome = self.recovered.run_tool(
                "pg_dump",
                "--format=directory",
                f"--jobs={self.jobs}",
                f"--compress={compression}",
                "--no-sync",
                "--no-subscriptions",
                f"--file={self.folder}",
                timeout_seconds=LOAD_SECONDS,
            )
            if outcome.status == 0:
                return
        raise _failed("pg_dump", outcome)

    def _missing_tablespaces(self) -> tuple[str, ...]:
        with self.recovered.session(read_only=True) as session:
            used = {str(name) for (name,) in session.query(_USED_TABLESPACES)}
        with self.target.admin_session() as session:
            usable = {str(name) for (name,) in session.query(_USABLE_TABLESPACES)}
        return tuple(sorted(used - usable))

    def _restore(self, *options: str) -> tuple[str, ...]:
        contents = self.target.run_tool("pg_restore", "--list", str(self.folder))
        if contents.status != 0:
            raise _failed("pg_restore --list", contents)
        with self.target.session(self.new_name, read_only=True) as session:
            forbidden = {str(name) for (name,) in session.query(_FORBIDDEN_EXTENSIONS)}
        with self.recovered.session(read_only=True) as session:
            members = session.query(_EXTENSION_FUNCTIONS, (sorted(forbidden),))
        granted = tuple(f" ACL {schema} FUNCTION {name}(" for schema, name in members)
        wanted, left_out = _leave_out(contents.output, forbidden, granted)
        (self.folder / "wanted.list").write_text(wanted)
        outcome = self.target.run_tool(
            "pg_restore",
            f"--jobs={self.jobs}",
            "--exit-on-error",
            *options,
            f"--use-list={self.folder / 'wanted.list'}",
            f"--dbname={self.new_name}",
            str(self.folder),
            timeout_seconds=LOAD_SECONDS,
        )
        if outcome.status != 0:
            raise _failed("pg_restore", outcome)
        return left_out

    def _copy_settings(self) -> None:
        """What belongs to a database and is not inside it: privileges and settings."""
        with self.recovered.session(read_only=True) as session:
            statements = session.query(_SETTINGS, (self.new_name,))
        with self.target.admin_session() as session:
            for (statement,) in statements:
                session.execute(str(statement))


def read_mark(target: Databases, name: str) -> dict[str, Any] | None:
    """The mark on a database of the target: {"run_id", "loaded"?}; None when it has no comment or
    is not there, {} when the comment is somebody else's."""
    with target.admin_session() as session:
        rows = session.query(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
            (name,),
        )
    comment = rows[0][0] if rows else None
    if comment is None:
        return None
    try:
        content = json.loads(comment)
    except ValueError:
        return {}
    return dict(content.get("leeward", {})) if isinstance(content, dict) else {}


def _leave_out(
    contents: str, forbidden: set[str], granted: tuple[str, ...]
) -> tuple[str, tuple[str, ...]]:
    """The table of contents without these extensions, their comments and privileges on their
    functions; and who they are.

    An entry reads "2; 3079 16390 EXTENSION - amcheck" (pg_restore, "--list").
    """
    kept, left_out = [], []
    for line in contents.splitlines():
        words = line.split()
        if "EXTENSION" in words[3:6] and words[words.index("EXTENSION") + 1 :][-1] in forbidden:
            left_out.append(words[-1])
        elif not any(member in line for member in granted):
            kept.append(line)
    return "\n".join(kept) + "\n", tuple(sorted(set(left_out)))


def _run(session: Session, template: str, *names: str) -> None:
    """One statement; the server quotes the names."""
    places = ", ".join(["%s::text"] * (len(names) + 1))
    [(statement,)] = session.query(f"SELECT format({places})", (template, *names))
    session.execute(str(statement))


def _failed(program: str, outcome: ToolOutcome) -> CheckFailed:
    said = (outcome.errors or outcome.output).strip().splitlines()
    return CheckFailed(
        f"expected {program} to succeed: {said[-1] if said else f'status {outcome.status}'}",
        code="load-failed",
        hint="Grant the operator's role what it lacks, or make what is missing on the target.",
        said=said[-10:],
    )


# As CREATE DATABASE writes them. daticulocale became datlocale in 17.
_CREATE_OPTIONS = """
SELECT pg_get_userbyid(datdba), concat_ws(' ',
         format('ENCODING %L LC_COLLATE %L LC_CTYPE %L LOCALE_PROVIDER %s',
                pg_encoding_to_char(encoding), datcollate, datctype,
                CASE datlocprovider WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' ELSE 'builtin' END),
         CASE datlocprovider
              WHEN 'i' THEN format('ICU_LOCALE %L', to_jsonb(d) ->> locale_column)
              WHEN 'b' THEN format('BUILTIN_LOCALE %L', to_jsonb(d) ->> locale_column) END,
         CASE WHEN to_jsonb(d) ->> 'daticurules' IS NOT NULL
              THEN format('ICU_RULES %L', to_jsonb(d) ->> 'daticurules') END)
  FROM pg_database d,
       (SELECT CASE WHEN current_setting('server_version_num')::int >= 170000
                    THEN 'datlocale' ELSE 'daticulocale' END AS locale_column) v
 WHERE datname = current_database()
"""

_UNTOUCHED = """
SELECT (SELECT shobj_description(oid, 'pg_database') FROM pg_database
         WHERE datname = current_database()),
       (SELECT count(*) FROM pg_class WHERE oid >= 16384)
"""

_USED_TABLESPACES = """
SELECT DISTINCT spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace
 WHERE spcname <> 'pg_global'
"""

# Whoever a table is given to afterwards, it is the operator who makes it.
_USABLE_TABLESPACES = """
SELECT spcname FROM pg_tablespace WHERE has_tablespace_privilege(oid, 'CREATE')
"""

_FORBIDDEN_EXTENSIONS = """
SELECT name FROM pg_available_extension_versions v
 WHERE v.superuser AND NOT v.trusted
   AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
"""

# No privileges of its own means the default ones; its comment is our mark. Lists are stored quoted
# (pg_dump, dumputils.c: variable_is_guc_list_quote).
_SETTINGS = """
WITH fresh AS (SELECT quote_ident(%s) AS name),
old AS (SELECT * FROM pg_database WHERE datname = current_database()),
settings AS (
  SELECT setrole, split_part(c, '=', 1) AS key, substr(c, strpos(c, '=') + 1) AS value
    FROM pg_db_role_setting, unnest(setconfig) c WHERE setdatabase = (SELECT oid FROM old))
SELECT 'REVOKE ALL ON DATABASE ' || fresh.name || ' FROM PUBLIC'
  FROM old, fresh WHERE datacl IS NOT NULL
UNION ALL
SELECT concat('GRANT ', a.privilege_type, ' ON DATABASE ', fresh.name, ' TO ',
              CASE a.grantee WHEN 0 THEN 'PUBLIC'
                             ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
              CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)
  FROM fresh, old, aclexplode(old.datacl) a WHERE a.grantee <> old.datdba
UNION ALL
SELECT concat('ALTER DATABASE ', fresh.name, ' CONNECTION LIMIT ', datconnlimit)
  FROM old, fresh WHERE datconnlimit >= 0
UNION ALL
SELECT concat(CASE setrole WHEN 0 THEN 'ALTER DATABASE '
                   ELSE 'ALTER ROLE ' || quote_ident(pg_get_userbyid(setrole)) || ' IN DATABASE '
              END, fresh.name, ' SET ', quote_ident(key), ' TO ',
              CASE WHEN key IN ('search_path', 'temp_tablespaces', 'local_preload_libraries',
                                'session_preload_libraries') THEN value
                   ELSE quote_literal(value) END)
  FROM settings, fresh
"""

_EXTENSION_FUNCTIONS = """
SELECT n.nspname, p.proname
  FROM pg_extension e
  JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
                  AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
  JOIN pg_proc p ON p.oid = d.objid
  JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE e.extname = ANY (%s)
"""
