"""Every Lambda of Leeward: one function per trigger, nothing else."""

from __future__ import annotations

from typing import Any

from chalice.app import Chalice, CloudWatchEvent

from chalicelib import services, telemetry
from chalicelib.api import dashboard, slack, v1

app = Chalice(app_name="leeward")
telemetry.install(app)
app.register_blueprint(slack.routes)
app.register_blueprint(v1.routes)
app.register_blueprint(dashboard.routes)

ALARM_RAISED = {
    "source": ["aws.cloudwatch"],
    "detail-type": ["CloudWatch Alarm State Change"],
    "detail": {"state": {"value": ["ALARM"]}},
}


@app.on_cw_event(ALARM_RAISED, name="on_alarm")
def on_alarm(event: CloudWatchEvent) -> Any:
    return services.on_alarm(event.to_dict())


@app.lambda_function(name="back_up")
def back_up(event: dict[str, Any], context: Any) -> Any:
    return services.back_up(event)


@app.lambda_function(name="fetch_wal")
def fetch_wal(event: dict[str, Any], context: Any) -> Any:
    return services.fetch_wal(event)


@app.lambda_function(name="take")
def take(event: dict[str, Any], context: Any) -> Any:
    return services.take(event)


@app.lambda_function(name="copy")
def copy(event: dict[str, Any], context: Any) -> Any:
    return services.copy(event)


@app.lambda_function(name="check")
def check(event: dict[str, Any], context: Any) -> Any:
    return services.check(event)


@app.lambda_function(name="prove")
def prove(event: dict[str, Any], context: Any) -> Any:
    return services.prove(event)


@app.lambda_function(name="arrive")
def arrive(event: dict[str, Any], context: Any) -> Any:
    return services.arrive(event)


@app.lambda_function(name="repair")
def repair(event: dict[str, Any], context: Any) -> Any:
    return services.repair(event)


@app.lambda_function(name="prune")
def prune(event: dict[str, Any], context: Any) -> Any:
    return services.prune(event)


@app.lambda_function(name="expire_versions")
def expire_versions(event: dict[str, Any], context: Any) -> Any:
    return services.expire_versions(event)


@app.lambda_function(name="extend_locks")
def extend_locks(event: dict[str, Any], context: Any) -> Any:
    return services.extend_locks(event)


@app.lambda_function(name="replicate")
def replicate(event: dict[str, Any], context: Any) -> Any:
    return services.replicate(event)


@app.lambda_function(name="sync")
def sync(event: dict[str, Any], context: Any) -> Any:
    return services.sync(event)


@app.lambda_function(name="watch_bucket")
def watch_bucket(event: dict[str, Any], context: Any) -> Any:
    return services.watch_bucket(event)


@app.lambda_function(name="plan_shards")
def plan_shards(event: dict[str, Any], context: Any) -> Any:
    return services.plan_shards(event)


@app.lambda_function(name="copy_shard")
def copy_shard(event: dict[str, Any], context: Any) -> Any:
    return services.copy_shard(event)


@app.lambda_function(name="finish_shards")
def finish_shards(event: dict[str, Any], context: Any) -> Any:
    return services.finish_shards(event)


@app.lambda_function(name="batch_copy")
def batch_copy(event: dict[str, Any], context: Any) -> Any:
    return services.batch_copy(event)


@app.lambda_function(name="watch")
def watch(event: dict[str, Any], context: Any) -> Any:
    return services.watch(event)


@app.lambda_function(name="find_damage")
def find_damage(event: dict[str, Any], context: Any) -> Any:
    return services.run_step(event)


@app.lambda_function(name="fence")
def fence(event: dict[str, Any], context: Any) -> Any:
    return services.run_step(event)


@app.lambda_function(name="rebuild")
def rebuild(event: dict[str, Any], context: Any) -> Any:
    return services.run_step(event)


@app.lambda_function(name="switch")
def switch(event: dict[str, Any], context: Any) -> Any:
    return services.run_step(event)


@app.lambda_function(name="workloads")
def workloads(event: dict[str, Any], context: Any) -> Any:
    return services.run_step(event)


@app.lambda_function(name="move_names")
def move_names(event: dict[str, Any], context: Any) -> Any:
    return services.run_step(event)


@app.lambda_function(name="provision")
def provision(event: dict[str, Any], context: Any) -> Any:
    return services.run_step(event)


@app.lambda_function(name="assess")
def assess(event: dict[str, Any], context: Any) -> Any:
    return services.run_step(event)


@app.lambda_function(name="fail_back")
def fail_back(event: dict[str, Any], context: Any) -> Any:
    return services.run_step(event)


@app.lambda_function(name="manage_servers")
def manage_servers(event: dict[str, Any], context: Any) -> Any:
    return services.run_step(event)


@app.lambda_function(name="restore_data")
def restore_data(event: dict[str, Any], context: Any) -> Any:
    return services.run_step(event)


@app.lambda_function(name="isolate")
def isolate(event: dict[str, Any], context: Any) -> Any:
    return services.isolate(event)


@app.lambda_function(name="inspect")
def inspect(event: dict[str, Any], context: Any) -> Any:
    return services.run_step(event)


@app.lambda_function(name="verify_services")
def verify_services(event: dict[str, Any], context: Any) -> Any:
    return services.run_step(event)


@app.lambda_function(name="heartbeat")
def heartbeat(event: dict[str, Any], context: Any) -> Any:
    return services.heartbeat(event)


@app.lambda_function(name="probe")
def probe(event: dict[str, Any], context: Any) -> Any:
    return services.probe(event)


@app.lambda_function(name="exercise")
def exercise(event: dict[str, Any], context: Any) -> Any:
    return services.exercise(event)


@app.lambda_function(name="find_scope")
def find_scope(event: dict[str, Any], context: Any) -> Any:
    return services.run_step(event)


@app.lambda_function(name="restore_bucket")
def restore_bucket(event: dict[str, Any], context: Any) -> Any:
    return services.run_step(event)


@app.lambda_function(name="tighten")
def tighten(event: dict[str, Any], context: Any) -> Any:
    return services.run_step(event)


@app.lambda_function(name="ask")
def ask(event: dict[str, Any], context: Any) -> Any:
    return services.ask(event)


@app.lambda_function(name="answer")
def answer(event: dict[str, Any], context: Any) -> Any:
    return services.answer(event)


@app.lambda_function(name="show")
def show(event: dict[str, Any], context: Any) -> Any:
    return services.show(event)


@app.lambda_function(name="chat")
def chat(event: dict[str, Any], context: Any) -> Any:
    return services.chat(event)


@app.lambda_function(name="tell")
def tell(event: dict[str, Any], context: Any) -> Any:
    return services.tell(event)


@app.lambda_function(name="publish")
def publish(event: dict[str, Any], context: Any) -> Any:
    return services.publish(event)


@app.lambda_function(name="escalate")
def escalate(event: dict[str, Any], context: Any) -> Any:
    return services.escalate(event)


@app.lambda_function(name="record")
def record(event: dict[str, Any], context: Any) -> Any:
    return services.close_run(event)
