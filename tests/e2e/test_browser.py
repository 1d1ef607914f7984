"""What a person sees in Open WebUI's chat past the soft and past the hard limit, in a real browser.

`--pictures` takes those in docs/images anew.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from support.openwebui import House, User
from support.proxied import eventually

from stack.browser import find_or_install

pytestmark = [pytest.mark.stack, pytest.mark.browser]

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TOASTS = """
window.toasts = [];
new MutationObserver((changes) => {
    for (const change of changes) for (const node of change.addedNodes) {
        if (node.nodeType !== Node.ELEMENT_NODE) continue;
        const toast = node.matches('[data-sonner-toast]') ? node : node.querySelector('[data-sonner-toast]');
        if (toast && !window.toasts.includes(toast)) window.toasts.push(toast);
    }
}).observe(document, {childList: true, subtree: true});
"""
"""Remembers every toast that was ever shown: each is gone after some seconds."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_or_install(), headless=True, args=FLAGS)
        yield browser
        browser.close()


class Tab:
    """One open tab of a signed-in person."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.asked = 0

    def open(self, *, temporary: bool) -> None:
        """Begin a chat."""
        self.page.goto(f"{self.url}/?model=sim-gpt{'&temporary-chat=true' if temporary else ''}")
        self.page.wait_for_selector("#chat-input")
        self.asked = 0

    def ask(self, text: str) -> None:
        """Send a message and wait until there is an answer or an error."""
        self.page.locator("#chat-input").click()
        self.page.keyboard.insert_text(text)
        self.page.keyboard.press("Enter")
        self.asked += 1
        expect(self.page.locator("button.regenerate-response-button")).to_have_count(self.asked, timeout=30_000)

    def toasts(self) -> list[tuple[str, str]]:
        """All toasts since the page was loaded: kind and text."""
        shown: list[list[str]] = self.page.evaluate(
            "window.toasts.map((one) => [one.dataset.type, one.textContent.trim()])"
        )
        return [(kind, text) for kind, text in shown]


@contextmanager
def tab_of(user: User, chromium: Browser) -> Iterator[Tab]:
    """The browser of a signed-in user, in English and in the light theme."""
    context = chromium.new_context(viewport={"width": 1280, "height": 860}, color_scheme="light", locale="en-US")
    page = context.new_page()
    memory = {"token": user.token, "locale": "en-US", "theme": "light"}
    for name, value in memory.items():
        page.add_init_script(f"localStorage.setItem({name!r}, {value!r})")
    page.add_init_script(TOASTS)
    try:
        yield Tab(page, user.house.url)
    finally:
        context.close()


def test_past_the_soft_limit_one_toast_is_shown_over_all_messages(
    house: House, chromium: Browser, pictures: Path
) -> None:
    user = house.user(house.group({"daily": {"soft": 80_000, "hard": 120_000}}, name="Students"))
    user.spend(78_000)
    with tab_of(user, chromium) as tab:
        tab.open(temporary=False)
        tab.ask("What is a budget?")
        assert tab.toasts() == []
        user.events(2)
        tab.ask("And what is a token?")
        ((kind, text),) = eventually(tab.toasts, bool, seconds=10)
        tab.page.screenshot(path=pictures / "toast.png", animations="disabled")
        assert kind == "warning"
        assert re.fullmatch(
            r"6\d% of your daily token limit for group Students is used; it resets at 00:00 UTC\.", text
        )
        tab.ask("How long is an hour?")
        assert len(tab.toasts()) == 1
        tab.open(temporary=True)
        tab.ask("And a day?")
        assert tab.toasts() == []


def test_a_temporary_chat_shows_the_toast_as_well(house: House, chromium: Browser) -> None:
    user = house.user(house.group({"daily": {"soft": 20, "hard": 10**6}}))
    user.spend()
    with tab_of(user, chromium) as tab:
        tab.open(temporary=True)
        tab.ask("What is a budget?")
        assert [kind for kind, _ in eventually(tab.toasts, bool, seconds=10)] == ["warning"]
        tab.ask("And what is a token?")
        assert len(tab.toasts()) == 1


def test_past_the_hard_limit_a_red_toast_and_a_lasting_box_say_it_all(
    house: House, chromium: Browser, pictures: Path
) -> None:
    user = house.user(house.group({"daily": {"hard": 100_000}}, name="Students"))
    user.ask("[[sim tokens=98000]] hi")

    def assert_refused() -> Locator:
        start = f"Daily limit of 100,000 tokens for group Students reached ({used:,} used). It resets at 00:00 UTC, in "
        red = eventually(lambda: [text for kind, text in tab.toasts() if kind == "error"], bool, seconds=10)
        assert [text[: len(start)] for text in red] == [start]
        box = tab.page.locator("#chat-container").get_by_text(red[0], exact=True)
        expect(box).to_be_visible()
        return box

    with tab_of(user, chromium) as tab:
        tab.open(temporary=False)
        tab.ask("What is a budget?")
        chats = [event for event in user.events(2) if event["kind"] != "task"]
        used = sum(event["charge"] for event in chats)
        # The warning of the first answer goes before the refusal comes.
        expect(tab.page.locator("[data-sonner-toast]")).to_have_count(0, timeout=15_000)
        tab.ask("And what is a token?")
        box = assert_refused()
        tab.page.screenshot(path=pictures / "refusal.png", animations="disabled")
        tab.page.reload()
        expect(box).to_be_visible()
        assert tab.toasts() == [], "the box stays, the toast does not come back"
        tab.open(temporary=True)
        tab.ask("What is a budget?")
        assert_refused()
    assert user.used() == used
