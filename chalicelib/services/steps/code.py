"""Which code is behind each kind of step; imported when the kind is asked for."""

from __future__ import annotations

from importlib import import_module

from chalicelib.errors import BadInput
from chalicelib.incidents.run import Work

CODE = {
    "database.find-damage": ("steps.find", "find"),
    "database.fence": ("steps.target", "fence_step"),
    "database.restore": ("steps.rebuild", "restore_step"),
    "database.replay": ("steps.rebuild", "replay_step"),
    "database.verify": ("steps.rebuild", "verify_step"),
    "database.load": ("steps.rebuild", "load_step"),
    "database.hand-over": ("steps.hand_over", "hand_over_step"),
    "database.switch": ("steps.target", "switch_step"),
    "database.await-writes": ("steps.target", "await_writes_step"),
    "people.tell": ("people.messages", "tell_step"),
    "database.set-aside": ("steps.aside", "set_aside_step"),
    "deletion.find-scope": ("steps.deletion", "find_scope_step"),
    "bucket.undelete": ("steps.objects", "undelete_step"),
    "bucket.undo": ("steps.objects", "undo_step"),
    "bucket.recover": ("steps.objects", "recover_step"),
    "rows.restore": ("steps.rows", "restore_step"),
    "access.tighten": ("steps.access", "tighten_step"),
    "isolation.isolate": ("steps.isolation", "isolate_step"),
    "isolation.lift": ("steps.isolation", "lift_step"),
    "infection.identify": ("steps.infection", "identify_step"),
    "infection.verify": ("steps.infection", "verify_step"),
    "infection.mend": ("steps.mending", "mend_step"),
    "forensics.keep": ("steps.forensics", "keep_step"),
    "service.patch": ("steps.patching", "patch_step"),
    "names.switch": ("steps.names", "switch_step"),
    "names.change-records": ("steps.names", "change_records_step"),
    "names.retarget": ("steps.names", "retarget_step"),
    "names.verify": ("steps.names", "verify_step"),
    "health.verify": ("steps.health", "verify_step"),
    "health.watch": ("steps.health", "watch_step"),
    "service.stop": ("steps.workloads", "stop_step"),
    "service.start": ("steps.workloads", "start_step"),
    "service.configure": ("steps.workloads", "configure_step"),
    "service.apply": ("steps.workloads", "apply_step"),
    "service.verify": ("steps.workloads", "verify_step"),
    "server.provision": ("steps.servers", "provision_step"),
    "server.secure": ("steps.servers", "secure_step"),
    "server.run": ("steps.server_commands", "run_step"),
    "server.patch": ("steps.host_patches", "patch_step"),
    "server.test": ("steps.server_commands", "test_step"),
    "server.isolate": ("steps.server_swap", "isolate_step"),
    "server.register": ("steps.server_swap", "register_step"),
    "code.restore": ("steps.host_code", "code_restore_step"),
    "files.restore": ("steps.host_restores", "files_restore_step"),
    "cache.restore": ("steps.host_restores", "cache_restore_step"),
    "infrastructure.assess": ("steps.assessing", "assess_step"),
    "infrastructure.decide-scope": ("steps.assessing", "decide_scope_step"),
    "infrastructure.provision": ("steps.infrastructure", "provision_step"),
    "failback.plan": ("steps.afterwards", "plan_failback_step"),
    "failback.window": ("steps.failback", "window_step"),
    "failback.check": ("steps.failback", "check_step"),
    "failback.compare": ("steps.homeward", "compare_step"),
    "failback.load": ("steps.homeward", "load_step"),
    "failback.bring-files": ("steps.bringing", "bring_files_step"),
    "failback.bring-cache": ("steps.bringing", "bring_cache_step"),
    "failback.protect": ("steps.failback", "protect_step"),
    "analysis.open": ("steps.afterwards", "open_analysis_step"),
}

# What takes a step back at the end of a drill; of every kind that says `taken_back`.
UNDO = {
    "database.fence": ("steps.target", "undo_fence"),
    "database.load": ("steps.rebuild", "undo_load"),
    "database.switch": ("steps.target", "undo_switch"),
    "failback.load": ("steps.homeward", "undo_load"),
    "bucket.undelete": ("steps.objects", "undo_changes"),
    "bucket.undo": ("steps.objects", "undo_changes"),
    "rows.restore": ("steps.rows", "undo_restore"),
    "access.tighten": ("steps.access", "undo_tighten"),
    "isolation.isolate": ("steps.isolation", "undo_isolate"),
    "service.patch": ("steps.patching", "undo_patch"),
    "names.switch": ("steps.names", "undo_move"),
    "names.change-records": ("steps.names", "undo_move"),
    "names.retarget": ("steps.names", "undo_move"),
    "service.stop": ("steps.workloads", "undo_scale"),
    "service.start": ("steps.workloads", "undo_scale"),
    "service.configure": ("steps.workloads", "undo_configure"),
    "service.apply": ("steps.workloads", "undo_apply"),
    "server.provision": ("steps.servers", "undo_provision"),
    "server.isolate": ("steps.server_swap", "undo_isolate"),
    "server.register": ("steps.server_swap", "undo_register"),
    "infrastructure.provision": ("steps.infrastructure", "undo_provision"),
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
