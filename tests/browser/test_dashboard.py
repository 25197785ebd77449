"""An incident of a corrupted database, driven from a real browser that runs no script.

One stage for all: the tests are one story, in the order of this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import urllib3

from tests.browsers import judge_page, overflow
from tests.clouds import wait_for
from tests.dashboards import COMPONENT, HOSTILE, PERSON, Desk, set_desk

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PAGES = ("", "backups/" + COMPONENT, "exercises", "findings", "actions", "sign-in")
REASON = "<b>looked</b> & agreed"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with set_desk(tmp_path_factory.mktemp("drills")) as desk:
        desk.drill.prepare()
        yield desk


def still(desk: Desk) -> str:
    """The first page, without being made anew in the middle of a test."""
    return f"{desk.url}?still=1"


@pytest.fixture(scope="module")
def incident(desk: Desk, page: Page) -> str:
    """The damage is done after the first look, and an alarm comes of it."""
    desk.drill.harm()
    return desk.drill.notice()


def test_who_is_not_signed_in_sees_nothing_but_how_to(desk: Desk, page: Page) -> None:
    for path in ("", "exercises", "incidents/inc-1", "backups/nexus-db"):
        answer = page.goto(desk.url + path)
        assert answer is not None
        assert answer.status == 401
        assert "leeward dashboard --by PERSON" in page.inner_text("main")
        assert COMPONENT not in page.inner_text("body")


def test_a_link_signs_one_browser_in_once_and_looking_at_it_does_not_use_it(
    desk: Desk, page: Page, context: BrowserContext, browser: Browser
) -> None:
    link = desk.link()
    for _ in range(2):
        page.goto(link)
    page.get_by_role("button", name="Sign in").click()
    assert page.url == f"{desk.url}?said=signed-in"
    [cookie] = context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (
        "__Host-leeward", True, True, "Strict",
    )  # fmt: skip
    with browser.new_context() as other:
        second = other.new_page()
        second.goto(link)
        second.get_by_role("button", name="Sign in").click()
        assert "used before" in second.get_by_role("alert").inner_text()
        assert other.cookies() == []


def test_before_anything_happens_the_first_page_says_what_is_and_is_not_ready(
    desk: Desk, page: Page
) -> None:
    page.goto(still(desk))
    heads = page.locator(".heads").inner_text()
    assert "None open" in heads
    assert "Nothing" in heads
    assert "0 of 4 proven" in heads
    card = page.locator(".card", has_text=COMPONENT).inner_text()
    assert "Not ready" in card
    assert "was ever restored and verified" in card
    assert "Within RPO" in card


def test_a_page_may_do_and_fetch_nothing(desk: Desk, page: Page) -> None:
    answer = page.goto(still(desk))
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert page.locator("script").count() == 0


def test_the_alarm_is_seen_and_what_waits_is_one_link_away(
    desk: Desk, page: Page, incident: str
) -> None:
    wait_for(lambda: _asked(page, desk), "nothing was asked", seconds=60)
    assert "1 open" in page.locator(".heads").inner_text()
    assert "1 answer" in page.locator(".heads").inner_text()
    page.locator("#waiting a").click()
    assert page.url.startswith(f"{desk.url}incidents/{incident}")
    assert HOSTILE in page.locator(".ask h2").inner_text()
    assert page.locator("main img").count() == 0
    assert "Waits for people" in page.locator(".steps li.waiting").inner_text()


def _asked(page: Page, desk: Desk) -> bool | None:
    page.goto(still(desk))
    return page.locator("#waiting a").count() == 1 or None


def test_a_form_that_is_being_filled_in_is_not_taken_away(
    desk: Desk, page: Page, incident: str
) -> None:
    waiting = page.goto(f"{desk.url}incidents/{incident}")
    assert waiting is not None
    assert "refresh" not in waiting.headers
    overview = page.goto(desk.url)
    assert overview is not None
    assert overview.headers["refresh"].startswith("10; url=/api/")
    paused = page.goto(still(desk))
    assert paused is not None
    assert "refresh" not in paused.headers


def test_every_page_is_usable_light_and_dark_narrow_and_wide(
    desk: Desk, browser: Browser, incident: str
) -> None:
    found = []
    for scheme in ("light", "dark"):
        with browser.new_context(color_scheme=scheme) as context:  # type: ignore[arg-type]
            page = context.new_page()
            _sign_in(page, desk)
            for path in (*PAGES, f"incidents/{incident}"):
                page.set_viewport_size({"width": 1200, "height": 850})
                page.goto(desk.url + path)
                found += [f"{scheme} {path}: {it}" for it in judge_page(page)]
                page.set_viewport_size({"width": 360, "height": 700})
                if overflow(page) > 0:
                    found.append(f"{path} is {overflow(page)} px wider than 360")
    assert found == []


def _sign_in(page: Page, desk: Desk, person: str = PERSON) -> None:
    page.goto(desk.link(person))
    page.get_by_role("button", name="Sign in").click()


def test_a_wrong_code_is_said_and_nothing_that_was_written_is_lost(
    desk: Desk, page: Page, incident: str
) -> None:
    page.goto(f"{desk.url}incidents/{incident}")
    page.get_by_label("One-time code").fill("000000")
    page.get_by_label("Reason").fill(REASON)
    page.get_by_role("button", name="Approve").click()
    said = page.get_by_role("alert").inner_text()
    assert "code" in said.lower()
    assert len(said.splitlines()) >= 2, "what to do is said too"
    assert page.get_by_label("Reason").input_value() == REASON
    assert page.get_by_label("One-time code").input_value() == ""
    assert "000000" not in page.content()


def test_a_form_that_is_not_ours_does_nothing(
    desk: Desk, page: Page, context: BrowserContext, incident: str
) -> None:
    page.goto(f"{desk.url}incidents/{incident}")
    ours = page.locator("input[name=form]").last.get_attribute("value")
    cookie = "; ".join(f"{it['name']}={it['value']}" for it in context.cookies())
    url = f"{desk.url}incidents/{incident}/acknowledgement"
    origin = "/".join(desk.url.split("/")[:3])
    tries = [
        ({"Cookie": cookie, "Origin": "https://evil.example"}, ours),
        ({"Cookie": cookie}, ours),
        ({"Cookie": cookie, "Origin": origin, "Sec-Fetch-Site": "cross-site"}, ours),
        ({"Cookie": cookie, "Origin": origin}, "0" * 64),
        ({"Cookie": cookie, "Origin": origin}, ""),
    ]
    for headers, token in tries:
        form = {"Content-Type": "application/x-www-form-urlencoded"} | headers
        answer = urllib3.request("POST", url, body=f"form={token}", headers=form, redirect=False)
        assert answer.status == 403, headers
        assert b"did not come from a page of this dashboard" in answer.data
    assert "Nobody has acknowledged" in page.inner_text("main")


def test_an_acknowledgement_is_a_press(desk: Desk, page: Page, incident: str) -> None:
    page.goto(f"{desk.url}incidents/{incident}")
    page.get_by_role("button", name="acknowledge").click()
    assert "You have acknowledged it" in page.get_by_role("status").inner_text()
    assert f"{PERSON} acknowledged" in page.inner_text("main")


def test_who_may_not_answer_gets_no_form(desk: Desk, browser: Browser, incident: str) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        _sign_in(page, desk, "dba-lead")
        page.goto(f"{desk.url}incidents/{incident}")
        assert "It is not yours to answer" in page.inner_text(".ask")
        assert page.get_by_label("One-time code").count() == 0


def test_it_is_approved_with_the_keyboard_alone_and_pressed_twice(
    desk: Desk, page: Page, incident: str
) -> None:
    page.goto(f"{desk.url}incidents/{incident}")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.locator("[name=code]:focus").count():
            break
    page.keyboard.type(desk.code())
    page.keyboard.press("Tab")
    page.keyboard.type(REASON)
    page.keyboard.press("Tab")
    assert page.locator("button:focus").inner_text() == "Approve"
    page.keyboard.press("Enter", delay=0)
    page.keyboard.press("Enter")
    # Not by waiting for its address: the second press aborts the first one's navigation.
    page.get_by_role("status").filter(has_text="Your answer counts").wait_for()
    assert "said=answered" in page.url
    assert page.locator(".ask").count() == 0


def test_the_recovery_is_watched_to_its_end_and_the_report_is_read(
    desk: Desk, page: Page, incident: str
) -> None:
    # It is made anew by itself; nothing is pressed.
    wait_for(
        lambda: "Recovered" in page.locator(".title").inner_text() or None,
        "the page never said that it has recovered", seconds=120,
    )  # fmt: skip
    states = page.locator(".steps .how").all_inner_texts()
    assert len(states) == 8
    assert all(it.startswith("Done") for it in states)
    page.get_by_role("link", name="Read the report").click()
    assert page.locator("h1").inner_text()
    assert "restore" in page.inner_text("main")
    assert REASON not in page.content(), "the reason is markup in the report"


def test_afterwards_the_component_is_ready_and_the_proof_leads_to_the_run(
    desk: Desk, page: Page, incident: str
) -> None:
    page.goto(still(desk))
    card = page.locator(".card", has_text=COMPONENT)
    assert "Ready" in card.locator(".state").first.inner_text()
    assert "was restored and found sound" in card.inner_text()
    card.locator("summary").click()
    card.get_by_role("link", name="The run that proved it").click()
    assert page.url == f"{desk.url}incidents/{incident}"
    others = page.context.new_page()
    others.goto(still(desk))
    assert "1 of 4 proven" in others.locator(".heads").inner_text()


def test_no_secret_is_on_a_page(
    desk: Desk, page: Page, context: BrowserContext, incident: str
) -> None:
    [session] = [it["value"] for it in context.cookies()]
    logins = desk.drill.cloud.client("secretsmanager")
    kept = [
        value
        for it in logins.list_secrets()["SecretList"]
        for value in json.loads(
            logins.get_secret_value(SecretId=it["ARN"])["SecretString"]
        ).values()
        if isinstance(value, str)
    ]
    assert kept
    ours = f"incidents/{incident}"
    paths = ("?still=1", "exercises", "findings", "actions", f"backups/{COMPONENT}", ours)
    for path in (*paths, f"{ours}/report"):
        page.goto(desk.url + path)
        shown = page.content()
        assert "leeward" in shown.lower()
        for secret in (session, desk.devices[PERSON], *kept):
            assert secret not in shown, path


def test_signing_out_ends_the_session_everywhere(
    desk: Desk, page: Page, context: BrowserContext, browser: Browser
) -> None:
    kept = context.cookies()
    page.goto(still(desk))
    page.get_by_role("button", name="Sign out").click()
    assert page.url == f"{desk.url}sign-in"
    assert context.cookies() == []
    with browser.new_context() as thief:
        thief.add_cookies(kept)  # type: ignore[arg-type]
        stolen = thief.new_page()
        stolen.goto(desk.url)
        assert "revoked" in stolen.get_by_role("alert").inner_text()


def test_no_code_link_or_session_is_in_a_log(desk: Desk, tmp_path: Path) -> None:
    import pyotp

    for name in ("api_handler", "show", "answer"):
        log = desk.drill.cloud.logs(name)
        assert log
        assert desk.devices[PERSON] not in log
        assert pyotp.TOTP(desk.devices[PERSON]).generate_otp(desk.used[PERSON]) not in log
        assert "link=" not in log
        assert "__Host-leeward=" not in log


def test_the_rights_are_those_that_are_needed(desk: Desk) -> None:
    rights = desk.drill.cloud.rights()
    for name in ("api_handler", "show"):
        assert rights[f"leeward-primary-{name}"].denied == (), name
    assert set(rights["leeward-primary-show"].unused) == set()
