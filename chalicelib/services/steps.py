"""Which code is behind each kind of step; imported when the kind is asked for."""

from __future__ import annotations

from importlib import import_module

from chalicelib.errors import BadInput
from chalicelib.incidents.run import Work

CODE = {
    "database.find-damage": ("find", "find"),
    "database.fence": ("target", "fence_step"),
    "database.restore": ("rebuild", "restore_step"),
    "database.replay": ("rebuild", "replay_step"),
    "database.verify": ("rebuild", "verify_step"),
    "database.load": ("rebuild", "load_step"),
    "database.hand-over": ("hand_over", "hand_over_step"),
    "database.switch": ("target", "switch_step"),
    "database.await-writes": ("target", "await_writes_step"),
    "people.tell": ("messages", "tell_step"),
    "database.set-aside": ("aside", "set_aside_step"),
    "deletion.find-scope": ("deletion", "find_scope_step"),
    "bucket.undelete": ("bucket_steps", "undelete_step"),
    "bucket.undo": ("bucket_steps", "undo_step"),
    "bucket.recover": ("bucket_steps", "recover_step"),
    "rows.restore": ("rows", "restore_step"),
    "access.tighten": ("access", "tighten_step"),
    "isolation.isolate": ("isolation", "isolate_step"),
    "isolation.lift": ("isolation", "lift_step"),
    "infection.identify": ("infection", "identify_step"),
    "infection.verify": ("infection", "verify_step"),
    "infection.mend": ("mending", "mend_step"),
    "forensics.keep": ("forensics", "keep_step"),
    "service.patch": ("patching", "patch_step"),
    "names.switch": ("names", "switch_step"),
    "names.change-records": ("names", "change_records_step"),
    "names.retarget": ("names", "retarget_step"),
    "names.verify": ("names", "verify_step"),
    "health.verify": ("health", "verify_step"),
    "health.watch": ("health", "watch_step"),
    "service.stop": ("workloads", "stop_step"),
    "service.start": ("workloads", "start_step"),
    "service.configure": ("workloads", "configure_step"),
    "service.apply": ("workloads", "apply_step"),
    "service.verify": ("workloads", "verify_step"),
    "server.provision": ("servers", "provision_step"),
    "server.secure": ("servers", "secure_step"),
    "server.run": ("server_commands", "run_step"),
    "server.patch": ("host_patches", "patch_step"),
    "server.test": ("server_commands", "test_step"),
    "server.isolate": ("server_swap", "isolate_step"),
    "server.register": ("server_swap", "register_step"),
    "code.restore": ("host_code", "code_restore_step"),
    "files.restore": ("host_restores", "files_restore_step"),
    "cache.restore": ("host_restores", "cache_restore_step"),
    "infrastructure.assess": ("assessing", "assess_step"),
    "infrastructure.decide-scope": ("assessing", "decide_scope_step"),
    "infrastructure.provision": ("infrastructure", "provision_step"),
    "failback.plan": ("afterwards", "plan_failback_step"),
    "failback.window": ("failback", "window_step"),
    "failback.check": ("failback", "check_step"),
    "failback.compare": ("homeward", "compare_step"),
    "failback.load": ("homeward", "load_step"),
    "failback.bring-files": ("bringing", "bring_files_step"),
    "failback.bring-cache": ("bringing", "bring_cache_step"),
    "failback.protect": ("failback", "protect_step"),
    "analysis.open": ("afterwards", "open_analysis_step"),
}

# What takes a step back at the end of a drill; of every kind that says `taken_back`.
UNDO = {
    "database.fence": ("target", "undo_fence"),
    "database.load": ("rebuild", "undo_load"),
    "database.switch": ("target", "undo_switch"),
    "failback.load": ("homeward", "undo_load"),
    "bucket.undelete": ("bucket_steps", "undo_changes"),
    "bucket.undo": ("bucket_steps", "undo_changes"),
    "rows.restore": ("rows", "undo_restore"),
    "access.tighten": ("access", "undo_tighten"),
    "isolation.isolate": ("isolation", "undo_isolate"),
    "service.patch": ("patching", "undo_patch"),
    "names.switch": ("names", "undo_move"),
    "names.change-records": ("names", "undo_move"),
    "names.retarget": ("names", "undo_move"),
    "service.stop": ("workloads", "undo_scale"),
    "service.start": ("workloads", "undo_scale"),
    "service.configure": ("workloads", "undo_configure"),
    "service.apply": ("workloads", "undo_apply"),
    "server.provision": ("servers", "undo_provision"),
    "server.isolate": ("server_swap", "undo_isolate"),
    "server.register": ("server_swap", "undo_register"),
    "infrastructure.provision": ("infrastructure", "undo_provision"),
}


def work_of(uses: str) -> Work:
    """Raises BadInput (code "unknown-step-kind")."""
    return _bound(CODE, uses)


def undo_of(uses: str) -> Work:
    """Raises BadInput (code "unknown-step-kind")."""
    return _bound(UNDO, uses)


def _bound(table: dict[str, tuple[str, str]], uses: str) -> Work:
    if uses not in table:
        raise BadInput(
            f"no code is bound to the step kind {uses!r}",
            hint="deploy the version that the plan was compiled with",
            code="unknown-step-kind",
        )
    module, name = table[uses]
    work: Work = getattr(import_module(f"chalicelib.services.{module}"), name)
    return work
