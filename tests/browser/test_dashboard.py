"""An incident of a corrupted database, driven from a real browser that runs no script.

One stage for all, and one incident. What must have happened is a fixture, so that each test runs
alone too; in the order of this file each finds the incident as young as it wants it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import urllib3

from tests.browsers import judge_page, overflow
from tests.clouds import wait_for
from tests.dashboards import COMPONENT, HOSTILE, PERSON, Desk, set_desk

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

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


def _sign_in(page: Page, desk: Desk, person: str = PERSON) -> None:
    page.goto(desk.link(person))
    page.get_by_role("button", name="Sign in").click()


@contextmanager
def another_browser(browser: Browser) -> Iterator[Page]:
    with browser.new_context(java_script_enabled=False) as context:
        context.set_default_timeout(60_000)
        yield context.new_page()


@pytest.fixture(scope="module")
def mine(desk: Desk, page: Page) -> Page:
    """The page of somebody who is signed in."""
    _sign_in(page, desk)
    return page


@pytest.fixture(scope="module")
def incident(desk: Desk, mine: Page) -> str:
    """The damage is done, an alarm comes of it, and its run waits for an approval."""
    desk.drill.harm()
    found = desk.drill.notice()
    wait_for(lambda: _asked(mine, desk), "nothing was asked", seconds=60)
    return found


def _asked(page: Page, desk: Desk) -> bool | None:
    page.goto(still(desk))
    return page.locator("#waiting a").count() == 1 or None


@pytest.fixture(scope="module")
def approved(desk: Desk, mine: Page, incident: str) -> str:
    """With the keyboard alone, and pressed twice; the page is the one that was answered on."""
    mine.goto(f"{desk.url}incidents/{incident}")
    for _ in range(20):
        mine.keyboard.press("Tab")
        if mine.locator("[name=code]:focus").count():
            break
    mine.keyboard.type(desk.code())
    mine.keyboard.press("Tab")
    mine.keyboard.type(REASON)
    mine.keyboard.press("Tab")
    assert mine.locator("button:focus").inner_text() == "Approve"
    mine.keyboard.press("Enter", delay=0)
    mine.keyboard.press("Enter")
    # Not by waiting for its address: the second press aborts the first one's navigation.
    mine.get_by_role("status").filter(has_text="Your answer counts").wait_for()
    return incident


@pytest.fixture(scope="module")
def recovered(mine: Page, approved: str) -> str:
    """The page is made anew by itself; nothing is pressed."""
    wait_for(
        lambda: "Recovered" in mine.locator(".title").inner_text() or None,
        "the page never said that it has recovered", seconds=120,
    )  # fmt: skip
    return approved


def test_who_is_not_signed_in_sees_nothing_but_how_to(desk: Desk, browser: Browser) -> None:
    with another_browser(browser) as page:
        _sees_nothing(desk, page)


def _sees_nothing(desk: Desk, page: Page) -> None:
    for path in ("", "exercises", "incidents/inc-1", "backups/nexus-db"):
        answer = page.goto(desk.url + path)
        assert answer is not None
        assert answer.status == 401
        assert "leeward dashboard --by PERSON" in page.inner_text("main")
        assert COMPONENT not in page.inner_text("body")


def test_a_link_signs_one_browser_in_once_and_looking_at_it_does_not_use_it(
    desk: Desk, browser: Browser
) -> None:
    link = desk.link()
    with another_browser(browser) as first, another_browser(browser) as second:
        for _ in range(2):
            first.goto(link)
        first.get_by_role("button", name="Sign in").click()
        assert first.url == f"{desk.url}?said=signed-in"
        [cookie] = first.context.cookies()
        assert (cookie["name"], cookie["httpOnly"], cookie["secure"], cookie["sameSite"]) == (
            "__Host-leeward", True, True, "Strict",
        )  # fmt: skip
        second.goto(link)
        second.get_by_role("button", name="Sign in").click()
        assert "used before" in second.get_by_role("alert").inner_text()
        assert second.context.cookies() == []


def test_before_anything_happens_the_first_page_says_what_is_and_is_not_ready(
    desk: Desk, mine: Page
) -> None:
    mine.goto(still(desk))
    heads = mine.locator(".heads").inner_text()
    assert "None open" in heads
    assert "Nothing" in heads
    assert "0 of 4 proven" in heads
    card = mine.locator(".card", has_text=COMPONENT).inner_text()
    assert "Not ready" in card
    assert "was ever restored and verified" in card
    assert "Within RPO" in card


def test_a_page_may_do_and_fetch_nothing(desk: Desk, mine: Page) -> None:
    answer = mine.goto(still(desk))
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert mine.locator("script").count() == 0


def test_the_alarm_is_seen_and_what_waits_is_one_link_away(
    desk: Desk, mine: Page, incident: str
) -> None:
    mine.goto(still(desk))
    assert "1 open" in mine.locator(".heads").inner_text()
    assert "1 answer" in mine.locator(".heads").inner_text()
    mine.locator("#waiting a").click()
    assert mine.url.startswith(f"{desk.url}incidents/{incident}")
    assert HOSTILE in mine.locator(".ask h2").inner_text()
    assert mine.locator("main img").count() == 0
    assert "Waits for people" in mine.locator(".steps li.waiting").inner_text()


def test_a_form_that_is_being_filled_in_is_not_taken_away(
    desk: Desk, mine: Page, incident: str
) -> None:
    waiting = mine.goto(f"{desk.url}incidents/{incident}")
    assert waiting is not None
    assert "refresh" not in waiting.headers
    overview = mine.goto(desk.url)
    assert overview is not None
    assert overview.headers["refresh"].startswith("10; url=/api/")
    paused = mine.goto(still(desk))
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


def test_a_wrong_code_is_said_and_nothing_that_was_written_is_lost(
    desk: Desk, mine: Page, incident: str
) -> None:
    mine.goto(f"{desk.url}incidents/{incident}")
    mine.get_by_label("One-time code").fill("000000")
    mine.get_by_label("Reason").fill(REASON)
    mine.get_by_role("button", name="Approve").click()
    said = mine.get_by_role("alert").inner_text()
    assert "code" in said.lower()
    assert len(said.splitlines()) >= 2, "what to do is said too"
    assert mine.get_by_label("Reason").input_value() == REASON
    assert mine.get_by_label("One-time code").input_value() == ""
    assert "000000" not in mine.content()


def test_a_form_that_is_not_ours_does_nothing(desk: Desk, mine: Page, incident: str) -> None:
    mine.goto(f"{desk.url}incidents/{incident}")
    ours = mine.locator("input[name=form]").last.get_attribute("value")
    cookie = "; ".join(f"{it['name']}={it['value']}" for it in mine.context.cookies())
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
    assert "Nobody has acknowledged" in mine.inner_text("main")


def test_an_acknowledgement_is_a_press(desk: Desk, mine: Page, incident: str) -> None:
    mine.goto(f"{desk.url}incidents/{incident}")
    mine.get_by_role("button", name="acknowledge").click()
    assert "You have acknowledged it" in mine.get_by_role("status").inner_text()
    assert f"{PERSON} acknowledged" in mine.inner_text("main")


def test_who_may_not_answer_gets_no_form(desk: Desk, browser: Browser, incident: str) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        _sign_in(page, desk, "dba-lead")
        page.goto(f"{desk.url}incidents/{incident}")
        assert "It is not yours to answer" in page.inner_text(".ask")
        assert page.get_by_label("One-time code").count() == 0


def test_it_is_approved_with_the_keyboard_alone_and_pressed_twice(
    mine: Page, approved: str
) -> None:
    assert f"incidents/{approved}?said=answered" in mine.url
    assert mine.locator(".ask").count() == 0


def test_the_recovery_is_watched_to_its_end_and_the_report_is_read(
    desk: Desk, mine: Page, recovered: str
) -> None:
    mine.goto(f"{desk.url}incidents/{recovered}")
    states = mine.locator(".steps .how").all_inner_texts()
    assert len(states) == 8
    assert all(it.startswith("Done") for it in states)
    mine.get_by_role("link", name="Read the report").click()
    assert mine.locator("h1").inner_text()
    assert "restore" in mine.inner_text("main")
    assert REASON not in mine.content(), "the reason is markup in the report"


def test_afterwards_the_component_is_ready_and_the_proof_leads_to_the_run(
    desk: Desk, mine: Page, recovered: str
) -> None:
    mine.goto(still(desk))
    card = mine.locator(".card", has_text=COMPONENT)
    assert "Ready" in card.locator(".state").first.inner_text()
    assert "was restored and found sound" in card.inner_text()
    card.locator("summary").click()
    card.get_by_role("link", name="The run that proved it").click()
    assert mine.url == f"{desk.url}incidents/{recovered}"
    others = mine.context.new_page()
    others.goto(still(desk))
    assert "1 of 4 proven" in others.locator(".heads").inner_text()


def test_no_secret_is_on_a_page(desk: Desk, mine: Page, recovered: str) -> None:
    [session] = [it["value"] for it in mine.context.cookies()]
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
    ours = f"incidents/{recovered}"
    paths = ("?still=1", "exercises", "findings", "actions", f"backups/{COMPONENT}", ours)
    for path in (*paths, f"{ours}/report"):
        mine.goto(desk.url + path)
        shown = mine.content()
        assert "leeward" in shown.lower()
        for secret in (session, desk.devices[PERSON], *kept):
            assert secret not in shown, path


def test_signing_out_ends_the_session_everywhere(desk: Desk, browser: Browser) -> None:
    with another_browser(browser) as page, another_browser(browser) as thief:
        _sign_in(page, desk)
        thief.context.add_cookies(page.context.cookies())  # type: ignore[arg-type]
        page.goto(still(desk))
        page.get_by_role("button", name="Sign out").click()
        assert page.url == f"{desk.url}sign-in"
        assert page.context.cookies() == []
        thief.goto(desk.url)
        assert "revoked" in thief.get_by_role("alert").inner_text()


def test_no_code_link_or_session_is_in_a_log(desk: Desk, approved: str) -> None:
    import pyotp

    for name in ("api_handler", "show", "answer"):
        log = desk.drill.cloud.logs(name)
        assert log
        assert desk.devices[PERSON] not in log
        assert pyotp.TOTP(desk.devices[PERSON]).generate_otp(desk.used[PERSON]) not in log
        assert "link=" not in log
        assert "__Host-leeward=" not in log


def test_the_rights_are_those_that_are_needed(desk: Desk, mine: Page, recovered: str) -> None:
    for path in (*PAGES, f"incidents/{recovered}", f"incidents/{recovered}/report"):
        mine.goto(desk.url + path)
    rights = desk.drill.cloud.rights()
    for name in ("api_handler", "show"):
        assert rights[f"leeward-primary-{name}"].denied == (), name
    assert set(rights["leeward-primary-show"].unused) == set()
