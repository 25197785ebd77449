"""Which code is behind each kind of step; imported when the kind is asked for."""

from __future__ import annotations

from importlib import import_module

from chalicelib.errors import BadInput
from chalicelib.incidents.run import Work

CODE = {
    "database.find-damage": ("steps.database.find", "find"),
    "database.fence": ("steps.database.target", "fence_step"),
    "database.restore": ("steps.database.rebuild", "restore_step"),
    "database.replay": ("steps.database.rebuild", "replay_step"),
    "database.verify": ("steps.database.rebuild", "verify_step"),
    "database.load": ("steps.database.rebuild", "load_step"),
    "database.hand-over": ("steps.database.hand_over", "hand_over_step"),
    "database.switch": ("steps.database.target", "switch_step"),
    "database.await-writes": ("steps.database.target", "await_writes_step"),
    "people.tell": ("people.messages", "tell_step"),
    "database.set-aside": ("steps.database.aside", "set_aside_step"),
    "deletion.find-scope": ("steps.deletion.scope", "find_scope_step"),
    "bucket.undelete": ("steps.deletion.objects", "undelete_step"),
    "bucket.undo": ("steps.deletion.objects", "undo_step"),
    "bucket.recover": ("steps.deletion.objects", "recover_step"),
    "rows.restore": ("steps.deletion.rows", "restore_step"),
    "access.tighten": ("steps.deletion.access", "tighten_step"),
    "isolation.isolate": ("steps.attack.isolation", "isolate_step"),
    "isolation.lift": ("steps.attack.isolation", "lift_step"),
    "infection.identify": ("steps.attack.infection", "identify_step"),
    "infection.verify": ("steps.attack.infection", "verify_step"),
    "infection.mend": ("steps.attack.mending", "mend_step"),
    "forensics.keep": ("steps.attack.forensics", "keep_step"),
    "service.patch": ("steps.attack.patching", "patch_step"),
    "names.switch": ("steps.sites.names", "switch_step"),
    "names.change-records": ("steps.sites.names", "change_records_step"),
    "names.retarget": ("steps.sites.names", "retarget_step"),
    "names.verify": ("steps.sites.names", "verify_step"),
    "health.verify": ("steps.sites.health", "verify_step"),
    "health.watch": ("steps.sites.health", "watch_step"),
    "service.stop": ("steps.workloads.deployments", "stop_step"),
    "service.start": ("steps.workloads.deployments", "start_step"),
    "service.configure": ("steps.workloads.deployments", "configure_step"),
    "service.apply": ("steps.workloads.deployments", "apply_step"),
    "service.verify": ("steps.workloads.deployments", "verify_step"),
    "server.provision": ("steps.servers.launch", "provision_step"),
    "server.secure": ("steps.servers.launch", "secure_step"),
    "server.run": ("steps.servers.commands", "run_step"),
    "server.patch": ("steps.servers.host_patches", "patch_step"),
    "server.test": ("steps.servers.commands", "test_step"),
    "server.isolate": ("steps.servers.swap", "isolate_step"),
    "server.register": ("steps.servers.swap", "register_step"),
    "code.restore": ("steps.servers.host_code", "code_restore_step"),
    "files.restore": ("steps.servers.host_restores", "files_restore_step"),
    "cache.restore": ("steps.servers.host_restores", "cache_restore_step"),
    "infrastructure.assess": ("steps.sites.assessing", "assess_step"),
    "infrastructure.decide-scope": ("steps.sites.assessing", "decide_scope_step"),
    "infrastructure.provision": ("steps.sites.infrastructure", "provision_step"),
    "failback.plan": ("steps.afterwards", "plan_failback_step"),
    "failback.window": ("steps.sites.failback", "window_step"),
    "failback.check": ("steps.sites.failback", "check_step"),
    "failback.compare": ("steps.sites.homeward", "compare_step"),
    "failback.load": ("steps.sites.homeward", "load_step"),
    "failback.bring-files": ("steps.servers.bringing", "bring_files_step"),
    "failback.bring-cache": ("steps.servers.bringing", "bring_cache_step"),
    "failback.protect": ("steps.sites.failback", "protect_step"),
    "analysis.open": ("steps.afterwards", "open_analysis_step"),
}

# What takes a step back at the end of a drill; of every kind that says `taken_back`.
UNDO = {
    "database.fence": ("steps.database.target", "undo_fence"),
    "database.load": ("steps.database.rebuild", "undo_load"),
    "database.switch": ("steps.database.target", "undo_switch"),
    "failback.load": ("steps.sites.homeward", "undo_load"),
    "bucket.undelete": ("steps.deletion.objects", "undo_changes"),
    "bucket.undo": ("steps.deletion.objects", "undo_changes"),
    "rows.restore": ("steps.deletion.rows", "undo_restore"),
    "access.tighten": ("steps.deletion.access", "undo_tighten"),
    "isolation.isolate": ("steps.attack.isolation", "undo_isolate"),
    "service.patch": ("steps.attack.patching", "undo_patch"),
    "names.switch": ("steps.sites.names", "undo_move"),
    "names.change-records": ("steps.sites.names", "undo_move"),
    "names.retarget": ("steps.sites.names", "undo_move"),
    "service.stop": ("steps.workloads.deployments", "undo_scale"),
    "service.start": ("steps.workloads.deployments", "undo_scale"),
    "service.configure": ("steps.workloads.deployments", "undo_configure"),
    "service.apply": ("steps.workloads.deployments", "undo_apply"),
    "server.provision": ("steps.servers.launch", "undo_provision"),
    "server.isolate": ("steps.servers.swap", "undo_isolate"),
    "server.register": ("steps.servers.swap", "undo_register"),
    "infrastructure.provision": ("steps.sites.infrastructure", "undo_provision"),
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
