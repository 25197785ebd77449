"""Hosts in a local cloud, for tests: one image, its template, an instance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leeward.local.cloud import LocalCloud
from tests.clouds import wait_for

UNIT = """[Unit]
Description=answers with a file
[Service]
WorkingDirectory=/var/www/site
EnvironmentFile=/etc/site/env
ExecStart=python3 -m http.server --bind ${ADDRESS} ${PORT}
Restart=on-failure
[Install]
WantedBy=multi-user.target
"""
BROKEN = "[Service]\nExecStart=/bin/false\nRestart=on-failure\n"
TEMPLATE = "site"
NAME = "site-server"


def make_image(folder: Path) -> Path:
    """Units `site` (enabled) and `broken` (which ends at once)."""
    units = folder / "etc/systemd/system"
    (units / "multi-user.target.wants").mkdir(parents=True)
    (units / "site.service").write_text(UNIT)
    (units / "broken.service").write_text(BROKEN)
    (units / "multi-user.target.wants/site.service").symlink_to("../site.service")
    (folder / "var/www/site").mkdir(parents=True)
    (folder / "var/www/site/index.html").write_text("hello")
    (folder / "etc/site").mkdir()
    (folder / "etc/site/env").write_text("PORT=8080\n")
    return folder


def make_template(cloud: LocalCloud, folder: Path) -> dict[str, str]:
    """The image, two security groups and a launch template; ids by name."""
    client = cloud.client("ec2")
    image = cloud.hosts.add_image(TEMPLATE, make_image(folder))
    groups = {
        name: client.create_security_group(GroupName=name, Description=name)["GroupId"]
        for name in ("web", "quarantine")
    }
    data: dict[str, Any] = {
        "ImageId": image,
        "InstanceType": "t3.small",
        "SecurityGroupIds": [groups["web"]],
    }
    client.create_launch_template(LaunchTemplateName=TEMPLATE, LaunchTemplateData=data)
    return {"image": image, **groups}


def launch(cloud: LocalCloud, name: str = NAME, template: str = TEMPLATE) -> str:
    """An instance that is online, launched by hand."""
    instance = str(
        cloud.client("ec2").run_instances(
            LaunchTemplate={"LaunchTemplateName": template},
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}
            ],
        )["Instances"][0]["InstanceId"]
    )
    wait_for(lambda: cloud.hosts.is_online(instance) or None, f"{instance} never came online")
    return instance
