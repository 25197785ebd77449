"""The steps on application servers: stop, start, configure, apply, verify; and what undoes them.

What was there before is remembered before anything is changed: numbers in the run's state,
configuration with the workload itself (ports/workloads.py). No value of a variable that comes from
a secret is in a record, an output or the state.
"""

from __future__ import annotations

from typing import Any

from chalicelib.errors import BadInput, CheckFailed, LeewardError, NotReady, Unavailable
from chalicelib.evidence.entries import decision
from chalicelib.evidence.text import counted
from chalicelib.incidents.fence import acquire_fence
from chalicelib.incidents.run import Run
from chalicelib.plan.components import Service
from chalicelib.ports.workloads import Standing, Workload
from chalicelib.recover.sites.workloads import decide_replicas, may_stay_silent
from chalicelib.services import build
from chalicelib.services.steps.acting import acting_on, choose_target
from chalicelib.services.steps.said import say
from chalicelib.services.steps.workloads.inputs import manifests_of, value_of

Outputs = dict[str, Any]

# Of a step's 300 s.
STOP_SECONDS = 120.0
READY_SECONDS = 240.0
# Of 600 s: images that were never on these nodes.
APPLY_SECONDS = 540.0
HEALTH_SECONDS = 60.0
# An output is at most 32 KiB.
OBJECTS_TOLD = 50


def stop_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Stop the servers where the component is, even when the run recovers elsewhere.

    They may not be reached when their site is lost: then nothing is stopped, and that is said.
    """
    component = inputs["component"]
    target = choose_target(build.plan(), component, site="", drill=run.drill)
    workload = _held(run, target)
    try:
        before = _remember(run, target, workload)
        stopped = workload.stop(STOP_SECONDS)
    except (Unavailable, NotReady) as error:
        if not _is_lost(run, component):
            raise
        return _not_stopped(run, target, error)
    say(run, decision(what=f"stop {target}", why=f"to undo: start {before} again"), about=target)
    return {
        "found": f"{target} is stopped: {counted(stopped.before, 'instance')} ended in"
        f" {stopped.seconds:.1f} s; {before} to start again",
        "stopped": True,
        "before": before,
        "seconds": round(stopped.seconds, 3),
    }


def _not_stopped(run: Run, target: str, error: LeewardError) -> Outputs:
    why = f"its site is lost, and {error.message}"
    say(run, decision(what=f"go on without stopping {target}", why=why), about=target)
    return {
        "found": f"{target} does not answer ({error.instance_code}): nothing is stopped; its"
        " database and its names must keep it out",
        "stopped": False,
        "before": None,
        "seconds": None,
    }


def start_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Start the servers, and wait until each one serves."""
    target = acting_on(run, inputs["component"])
    workload, began = _held(run, target), build.clock().now()
    before = _remember(run, target, workload)
    planned = service_of(target).replicas
    wanted = decide_replicas(asked=inputs.get("replicas"), before=before, planned=planned)
    say(run, decision(what=f"start {target}", why=f"{wanted.replicas}, {wanted.why}"), about=target)
    workload.start(wanted.replicas)
    standing = workload.wait_ready(READY_SECONDS)
    _require_some(target, standing)
    return {
        "found": f"{target} serves with {counted(standing.ready, 'instance')}, {wanted.why}",
        "ready": standing.ready,
        "revision": standing.revision,
        "seconds": _since(began),
    }


def configure_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Set one variable, to a text of the plan or to a database's address.

    A text that an earlier step left empty sets nothing: it found no need to.
    """
    if inputs.get("value") == "":
        found = f"{inputs['name']} of {inputs['component']} stays as it is: nothing has to change"
        return {"found": found, "changed": False, "ready": 0, "revision": "", "seconds": 0.0}
    target, name = acting_on(run, inputs["component"]), str(inputs["name"])
    value, told = value_of(run, inputs)
    workload, began = _held(run, target), build.clock().now()
    say(run, decision(what=f"set {name} of {target} to {told}", why=_undo_of(name)), about=name)
    changed = workload.set_environment(name, value, keep=run.run_id)
    standing = workload.wait_ready(READY_SECONDS)
    did = "is set to" if changed else "was already"
    return {
        "found": f"{name} of {target} {did} {told};"
        f" {counted(standing.ready, 'instance')} of {standing.wanted} started with it",
        "changed": changed,
        "ready": standing.ready,
        "revision": standing.revision,
        "seconds": _since(began),
    }


def apply_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Apply the manifests of the plan, or of the step, and wait for what they deploy."""
    target = acting_on(run, inputs["component"])
    workload, began = _held(run, target), build.clock().now()
    manifests = manifests_of(service_of(target), target, inputs)
    say(run, decision(what=f"apply the manifests of {target}", why=_undo_of("them")), about=target)
    applied = workload.apply(manifests, keep=run.run_id, seconds=APPLY_SECONDS)
    standing = workload.status()
    created = sum(it.what == "created" for it in applied)
    changed = sum(it.what == "changed" for it in applied)
    return {
        "found": f"{counted(len(applied), 'object')} of {target} applied, {created} new,"
        f" {changed} changed; {counted(standing.ready, 'instance')} of {standing.wanted} serve",
        "objects": [f"{it.name}: {it.what}" for it in applied[:OBJECTS_TOLD]],
        "created": created,
        "changed": changed,
        "ready": standing.ready,
        "seconds": _since(began),
    }


def verify_step(run: Run, inputs: dict[str, Any]) -> Outputs:
    """All servers serve, none with an old configuration, and the health address says so.

    Raises:
        CheckFailed: code "nothing-serves", "not-ready-in-time", "rollout-stuck", "service-down".
    """
    target = acting_on(run, inputs["component"])
    standing = workload_of(target).wait_ready(HEALTH_SECONDS)
    _require_some(target, standing)
    health = _health(target)
    return {
        "found": f"{target} serves with {counted(standing.ready, 'instance')}, revision"
        f" {standing.revision}; {health or 'the plan names no health address of it'}",
        "ready": standing.ready,
        "revision": standing.revision,
        "health": health,
    }


def undo_scale(run: Run, inputs: dict[str, Any]) -> Outputs:
    """As many servers as there were when the run first touched them, stopped or started."""
    done = [_scale_back(run, target) for target in _touched(run, inputs["component"])]
    return {"found": "; ".join(done) or f"{inputs['component']} was not touched"}


def undo_configure(run: Run, inputs: dict[str, Any]) -> Outputs:
    """The variable is what it was before the run."""
    target, name = acting_on(run, inputs["component"]), str(inputs["name"])
    kept = build.state().get(f"run#{run.run_id}", f"step#{run.step}")
    if kept is not None and not kept["outputs"]["changed"] and not kept["outputs"]["ready"]:
        return {"found": f"{name} of {target} had nothing to be set to"}
    workload = workload_of(target)
    workload.put_back_environment(name, keep=run.run_id)
    # Also when a dead attempt put it back: nobody has seen yet that servers run with it.
    workload.wait_ready(READY_SECONDS)
    return {"found": f"{name} of {target} is what it was before"}


def undo_apply(run: Run, inputs: dict[str, Any]) -> Outputs:
    """Objects are as they were, or gone; a namespace that was made stays."""
    target = acting_on(run, inputs["component"])
    workload = workload_of(target)
    manifests = manifests_of(service_of(target), target, inputs)
    done = workload.put_back_manifests(manifests, keep=run.run_id)
    return {
        "found": f"the objects of {target} are as before, {len(done)} of them put back just now"
    }


def service_of(component: str) -> Service:
    """Raises BadInput (code "unknown-component") when it is no service of the plan."""
    found = build.plan().components.get(component)
    if not isinstance(found, Service):
        known = [name for name, it in build.plan().components.items() if isinstance(it, Service)]
        raise BadInput(
            f"the plan has no service {component!r}",
            hint=f"one of: {', '.join(known)}",
            code="unknown-component",
        )
    return found


def workload_of(component: str) -> Workload:
    """Raises NotReady (code "no-workload") when the plan does not say where it runs."""
    found = service_of(component)
    if found.cluster and found.deployment:
        return _deployment(found)
    if found.units and found.on:
        return _units(found.on, found.units)
    raise NotReady(
        f"expected the plan to say where {component} runs, found neither a cluster with a"
        " deployment nor units on a server",
        hint=f"give {component} its `cluster` and `deployment`, or `units` and `on`",
        code="no-workload",
    )


def _deployment(found: Service) -> Workload:
    from chalicelib.adapters.kubernetes.api import PATIENCE, KubernetesApi
    from chalicelib.adapters.kubernetes.deployment import KubernetesDeployment
    from chalicelib.adapters.kubernetes.token import EksAccess

    assert found.cluster
    assert found.deployment
    access = EksAccess(build.client("sts"), found.cluster.name)
    api = KubernetesApi(
        found.cluster.name, found.cluster.endpoint, found.cluster.ca, access, PATIENCE
    )
    return KubernetesDeployment(
        api,
        found.deployment,
        namespace=found.cluster.namespace,
        clock=build.clock(),
        container=found.container or "",
        replicas=found.replicas,
    )


def _units(server: str, units: tuple[str, ...]) -> Workload:
    from chalicelib.adapters.servers.systemd import SystemdUnits
    from chalicelib.services.steps.servers.launch import commands_of, named_server, server_of

    return SystemdUnits(commands_of(server_of(server)), named_server(server).id, units)


def _held(run: Run, target: str) -> Workload:
    """The workload, once no other run may act on it."""
    workload = workload_of(target)
    acquire_fence(build.state(), target, run.run_id, clock=build.clock())
    return workload


def _remember(run: Run, target: str, workload: Workload) -> int:
    """How many were wanted when the run first touched it; kept before anything is changed."""
    partition, sort = f"run#{run.run_id}", _kept_at(target)
    kept = build.state().get(partition, sort)
    if kept is None:
        build.state().create(partition, sort, {"replicas": workload.status().wanted})
        kept = build.state().get(partition, sort)
    assert kept is not None
    return int(kept["replicas"])


def _kept_at(target: str) -> str:
    return f"replicas#{target}"


def _touched(run: Run, component: str) -> list[str]:
    """What `service.stop` and `service.start` acted on in this run."""
    targets = [
        choose_target(build.plan(), component, site="", drill=run.drill),
        acting_on(run, component),
    ]
    kept = [it for it in targets if build.state().get(f"run#{run.run_id}", _kept_at(it))]
    return list(dict.fromkeys(kept))


def _scale_back(run: Run, target: str) -> str:
    workload = _held(run, target)
    before = _remember(run, target, workload)
    if before == 0:
        workload.stop(STOP_SECONDS)
        return f"{target} is stopped, as it was"
    workload.start(before)
    workload.wait_ready(READY_SECONDS)
    return f"{target} serves with {counted(before, 'instance')}, as before"


def _is_lost(run: Run, component: str) -> bool:
    scenario = build.plan().scenarios.get(run.scenario)
    return may_stay_silent(service_of(component).site, scenario.loses if scenario else ())


def _undo_of(what: str) -> str:
    return f"the step says so; to undo: put {what} back as the annotation leeward/before holds it"


def _require_some(target: str, standing: Standing) -> None:
    if not standing.ready:
        raise CheckFailed(
            f"expected {target} to serve, found no instance wanted",
            hint="put a service.start step before this one",
            code="nothing-serves",
        )


def _health(target: str) -> str:
    """What the health address says; "" without one. Raises CheckFailed (code "service-down")."""
    from chalicelib.verify.probes import Target, policy_of, verify_targets

    found = service_of(target)
    if not found.health:
        return ""
    asked = [Target(target, found.health, found.health_says or "")]
    [health] = verify_targets(
        asked,
        build.prober(),
        policy_of(build.plan()),
        clock=build.clock(),
        limit_seconds=HEALTH_SECONDS,
    )
    if not health.ok:
        raise CheckFailed(
            f"expected {target} to answer well at {found.health}, found {health.problem}",
            hint="look at what the application logs",
            code="service-down",
        )
    return f"{found.health} answers in {health.slowest_seconds:.2f} s"


def _since(began: Any) -> float:
    return round(float((build.clock().now() - began).total_seconds()), 3)
