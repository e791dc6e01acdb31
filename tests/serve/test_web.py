"""The people's page, as people use it: in a browser, against the service."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from live_service import Live
from tilth.feedback_log import FeedbackLog
from tilth.judgment_log import JudgmentLog
from web_browser import Visits, chromium
from web_shop import HOSTILE, running

WEB = Path(__file__).parents[2] / "src" / "tilth" / "serve" / "web"
VIEWS = {
    "search": "#/search?q=garden+hose&right=r2",
    "judging": "#/judge",
    "reports": "#/reports",
    "report": "#/reports?open=r1",
    "figures": "#/figures?by=arm,day",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(tmp_path_factory.mktemp("web")) as shop:
        yield shop


@pytest.fixture(scope="module")  # and no longer: Playwright occupies the thread's event loop
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def visits(browser: Browser, shop: Live) -> Iterator[Visits]:
    visits = Visits(browser, shop)
    yield visits
    visits.close()
    assert (visits.errors, visits.elsewhere) == ([], [])


def search(query: str, **values: str) -> str:
    return "#/search?" + urlencode({"q": query, **values})


def hits(page: Page) -> list[str]:
    expect(page.locator(".hit").first).to_be_visible()
    return page.locator(".hit h3").all_text_contents()


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.id || document.activeElement.className"))


# --- the files ------------------------------------------------------------------------------------


def words() -> dict[str, dict[str, object]]:
    return {code: json.loads((WEB / f"{code}.json").read_text("utf-8")) for code in ("en", "ru")}


def forms(entry: object) -> list[str]:
    return list(entry.values()) if isinstance(entry, dict) else [str(entry)]


def test_both_languages_say_the_same_things() -> None:
    en, ru = words()["en"], words()["ru"]
    assert list(en) == list(ru)
    for key, entry in en.items():
        assert isinstance(entry, dict) == isinstance(ru[key], dict), key
        filled = [{*re.findall(r"\{\w+\}", form)} for form in (*forms(entry), *forms(ru[key]))]
        assert all(each == filled[0] for each in filled), key
        if isinstance(entry, dict):
            assert ({*entry}, {*ru[key]}) == ({"one", "other"}, {"one", "few", "many", "other"}), key


def test_every_word_is_there_and_is_used() -> None:
    source, known = "\n".join(path.read_text("utf-8") for path in WEB.glob("*.js")), set(words()["en"])
    assert set(re.findall(r"\bt\(\s*\"([^\"]+)\"", source)) - known == set()
    families = re.findall(r"\bnamed\(\s*\"(\w+)\"", source) + re.findall(r"\bt\(\s*`([\w.]+)\$\{", source)
    assert [family for family in families if not any(key.startswith(family) for key in known)] == []
    quoted = set(re.findall(r"\"([\w.]+)\"", source))
    assert {key for key in known - quoted if not key.startswith(tuple(families))} == set()


def test_no_file_asks_for_more_than_the_policy_allows() -> None:
    for path in WEB.iterdir():
        text = path.read_text("utf-8")
        assert text.count("\n") < 400, path.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|setHTML", text), (
            path
        )
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}[^\"' >]*", text))
        assert addresses - {"http://www.w3.org/2000/svg"} == set(), path.name
    assert not re.search(
        r"<style|style=|<script(?! type=\"module\" src)|\son\w+=", (WEB / "index.html").read_text()
    )


def test_the_page_needs_no_key_and_forbids_everything_else(visits: Visits) -> None:
    page = visits.open(key="")
    answer = page.request.get(f"{visits.shop.address}/")
    policy = answer.headers["content-security-policy"]
    assert answer.status == 200
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in ("app.js", "en.json", "page.css", "icon.svg"):
        assert page.request.get(f"{visits.shop.address}/assets/{name}").status == 200


# --- searching ------------------------------------------------------------------------------------


def test_searching_by_keyboard_alone(visits: Visits) -> None:
    page = visits.open()
    expect(page.get_by_text("Type what a customer would type.")).to_be_visible()
    page.keyboard.press("Tab")
    assert focused(page) == "skip"
    page.keyboard.press("Enter")
    assert focused(page) == "main"
    page.keyboard.press("Tab")
    assert focused(page) == "q"
    page.keyboard.type("garden hose 25 m")
    page.keyboard.press("Enter")
    assert hits(page)[0].startswith("Garden hose 25 m")
    expect(page.get_by_role("status")).to_have_text("10 hits are shown, of 22 products.")
    assert "q=garden+hose+25+m" in page.url
    why = page.locator(".hit").first.locator(".why summary")
    why.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("table").first).to_contain_text("words (BM25)")
    expect(page.get_by_role("table").first).to_contain_text("shop's own encoder (vectors)")
    expect(page.locator(".timings")).to_contain_text(re.compile(r"own encoder \(vectors\) \d"))


def test_an_address_holds_everything(visits: Visits) -> None:
    filters = json.dumps({"brand": ["Rill", "Terra"], "price": {"lte": 30}})
    page = visits.open(search("hose", k="3", filters=filters, left="r1", right="hybrid", collapse="1"))
    expect(page.locator(".column")).to_have_count(2)
    assert page.locator(".column h2").all_inner_texts() == ["r1", "plain hybrid"]
    assert page.locator(".column").first.locator(".hit").count() == 3
    assert page.locator(".chip").all_text_contents() == [
        "brand: Rill or Terra × remove this filter", "price: ≤ 30 × remove this filter"
    ]  # fmt: skip
    assert (page.locator("#k").input_value(), page.locator("#collapse").is_checked()) == ("3", True)
    page.locator("#q").fill("manure")
    page.keyboard.press("Enter")
    expect(page.locator(".chip")).to_have_count(2)
    page.go_back()
    expect(page.locator("#q")).to_have_value("hose")


def test_facets_filter_and_stay_in_focus(visits: Visits) -> None:
    page = visits.open(search("garden hose"))
    brands = page.get_by_role("group", name="brand")
    terra = brands.get_by_label("Terra")
    expect(brands).to_contain_text("6 / 6")
    terra.focus()
    page.keyboard.press("Space")
    expect(page.locator(".chip")).to_have_text("brand: Terra × remove this filter")
    expect(page.get_by_role("status")).to_contain_text("of 6 products")
    expect(terra).to_be_focused()
    brands.get_by_label("Rill").check()  # counted over what the other filters allow
    expect(page.get_by_role("status")).to_contain_text("of 18 products")
    page.get_by_role("group", name="price").get_by_label("price: to").fill("20")
    page.keyboard.press("Enter")
    expect(page.locator(".chip")).to_have_count(2)
    page.get_by_role("button", name="Remove all").click()
    expect(page.locator(".chip")).to_have_count(0)


def test_conditions_are_made_of_what_the_catalogue_has(visits: Visits) -> None:
    page = visits.open(search("garden hose"))
    hits(page)
    page.get_by_text("Add a condition").click()
    page.get_by_label("Field").select_option("attributes.length")
    page.get_by_label("from", exact=True).fill("20")
    page.get_by_label("to", exact=True).fill("30")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".chip")).to_have_text("length: ≥ 20, ≤ 30 × remove this filter")
    expect(page.get_by_role("status")).to_contain_text("of 9 products")
    page.get_by_label("Field").select_option("attributes.frost proof")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("of 3 products")
    page.get_by_label("Field").select_option("mpn")
    page.get_by_label("Condition", exact=True).select_option("missing")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_text("Nothing was found.")).to_be_visible()


def test_filters_as_json_say_what_is_wrong(visits: Visits) -> None:
    page = visits.open(search("garden hose"))
    hits(page)
    page.get_by_text("Filters as JSON").click()
    text, wrong = page.locator("#filters-json"), page.locator("#filters-json-wrong")
    for typed, said in (("{", "This is not JSON"), ("[1]", "Filters are a JSON object")):
        text.fill(typed)
        page.locator(".panel form", has=text).get_by_role("button").click()
        expect(wrong).to_contain_text(said)
        expect(text).to_have_attribute("aria-invalid", "true")
    text.fill('{"brnd": "Rill"}')
    page.locator(".panel form", has=text).get_by_role("button").click()
    expect(wrong).to_contain_text("brnd")
    expect(page.get_by_role("alert").filter(has_text="The service refused the request.")).to_be_visible()
    text.fill('{"brand": "Rill"}')
    page.locator(".panel form", has=text).get_by_role("button").click()
    expect(page.get_by_role("status")).to_contain_text("of 12 products")
    expect(wrong).to_be_empty()


def test_further_pages_have_further_ranks(visits: Visits) -> None:
    page = visits.open(search("garden hose", k="8"))
    first = hits(page)
    more = page.get_by_role("button", name="More", exact=True)
    more.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".hit")).to_have_count(16)
    expect(page.locator(".hit").nth(8)).to_be_focused()
    assert hits(page)[:8] == first
    assert page.locator(".rank").nth(15).inner_text().split()[-1] == "16"
    more.click()
    expect(more).to_have_count(0)


def test_two_releases_beside_each_other_show_what_moved(visits: Visits) -> None:
    page = visits.open(search("garden hose", left="r1", right="r2", k="10"))
    left, right = page.locator(".column").first, page.locator(".column").nth(1)
    hits(page)
    before, after = left.locator("h3").all_text_contents(), right.locator("h3").all_text_contents()
    assert before != after
    for rank, title in enumerate(after, start=1):
        said = right.locator(".change").nth(rank - 1).inner_text()
        if title not in before:
            assert "not among the hits on the left" in said
        elif (was := before.index(title) + 1) == rank:
            assert "same place" in said
        else:
            way = "up" if was > rank else "down"
            assert re.search(rf"{abs(was - rank)} places? {way}, from {was}", said)


def test_what_is_said_of_an_answer(visits: Visits) -> None:
    page = visits.open()
    decision = {"answered": False, "probability": 0.12, "threshold": 0.3}

    def answer(route: Route) -> None:
        content = route.fetch().json()
        skipped = {"dense": "the encoder knows the letters of this query, not its words"}
        route.fulfill(json={**content, "decision": decision, "skipped": skipped})

    page.route("**/v1/search", answer)
    page.locator("#q").fill("gardn hose")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The shop seems to have nothing that fits.")).to_be_visible()
    expect(page.get_by_text("probability of an answer is 12%, below 30%")).to_be_visible()
    expect(page.locator(".notice", has_text="Read as:")).to_contain_text("garden hose")
    expect(page.locator(".column footer")).to_contain_text("the encoder knows the letters")
    expect(page.locator(".timings")).to_contain_text(re.compile(r"fusion \d"))
    assert page.locator(".bar .part").count() >= 4


# --- feedback -------------------------------------------------------------------------------------


def told(shop: Live, action: str) -> list[tuple[str, int | None, str]]:
    found = [one for _, one in FeedbackLog(shop.service.store).interactions()]
    return [(one.product_id, one.rank, one.reason) for one in found if one.action == action and one.client_id]


def test_a_click_opens_a_new_tab_and_is_recorded(visits: Visits) -> None:
    page = visits.open(search("GH-25-b"))
    hits(page)
    page.context.route("https://shop.example/**", lambda route: route.fulfill(body="a shop"))
    link = page.locator(".hit h3 a").first
    assert link.get_attribute("rel") == "noopener noreferrer"
    with page.expect_response("**/v1/feedback") as answer, page.expect_popup() as popup:
        link.click()
    assert answer.value.json() == {"recorded": 1, "known": 0}
    assert popup.value.url == "https://shop.example/hose/25/blue"
    assert popup.value.evaluate("opener") is None
    assert told(visits.shop, "click") == [("hose-25-blue", 1, "")]
    name = answer.value.request.post_data_json["events"][0]["query_id"]
    assert FeedbackLog(visits.shop.service.store).served_by_id([name])[name].query == "GH-25-b"
    visits.elsewhere.clear()  # the user went there


def test_a_rejection_that_failed_is_told_again(visits: Visits) -> None:
    page = visits.open(search("GH-10-g"))
    hits(page)
    page.route("**/v1/feedback", lambda route: route.abort())
    first = page.locator(".hit").first
    first.get_by_text("Not relevant").click()
    first.get_by_label("Why?").fill("too short")
    page.keyboard.press("Enter")
    expect(first.get_by_role("alert")).to_contain_text("The service cannot be reached")
    visits.errors.clear()  # net::ERR_FAILED
    page.unroute("**/v1/feedback")
    first.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("Marked as not relevant.").first).to_be_visible()
    assert told(visits.shop, "rejected") == [("hose-10-green", 1, "too short")]


def test_what_products_say_is_never_parsed(visits: Visits) -> None:
    page = visits.open(search("Bold garden hose img onerror", k="30"))
    hits(page)
    evil = page.locator(".hit", has_text="onerror").first
    expect(evil.locator("h3")).to_have_text(f"Garden hose {HOSTILE}")
    assert evil.locator("h3 a").count() == 0  # javascript: leads nowhere
    evil.get_by_text("Identifiers and picture").click()
    expect(evil).to_contain_text("data:text/html,<script>1</script>")
    assert page.locator("main img, main script, main b, main i, main svg[onload]").count() == 0
    assert page.evaluate("window.hurt") is None
    page = visits.open(
        f"#/search?q={quote(HOSTILE)}&left={quote(HOSTILE)}&filters={quote(json.dumps({HOSTILE: HOSTILE}))}"
    )
    expect(page.get_by_role("alert").filter(has_text="refused").first).to_be_visible()
    assert page.evaluate("window.hurt") is None


# --- judging --------------------------------------------------------------------------------------


def judged(shop: Live, judge: str) -> list[tuple[int, int, str]]:
    found = [one for _, one in JudgmentLog(shop.service.store).judgments() if one.judge == judge]
    return [(one.grade, one.highest, one.reason) for one in found]


def pair(page: Page) -> str:
    return page.locator(".pair h2").inner_text() + page.locator(".pair h3").inner_text()


def test_judging_by_keys(visits: Visits) -> None:
    page = visits.open("#/judge")
    expect(page.get_by_label("Your name")).to_be_focused()
    page.keyboard.type("vera")
    page.keyboard.press("Enter")
    expect(page.locator(".pair")).to_be_focused()
    expect(page.locator(".grade").first).to_contain_text("meets every stated requirement")
    first = pair(page)
    page.keyboard.press("r")
    page.keyboard.type("3 metres short, surely")  # keys are text while somebody types
    page.keyboard.press("Enter")
    assert judged(visits.shop, "vera") == []
    page.keyboard.press("2")
    expect(page.get_by_text("Judged by you: 1.")).to_be_visible()
    assert judged(visits.shop, "vera") == [(2, 3, "3 metres short, surely")]
    second = pair(page)
    assert second != first
    with page.expect_response("**/v1/judgments/next*"):
        page.keyboard.press("s")
    settled(page)
    assert pair(page) not in (first, second)
    page.keyboard.press("5")  # not on this scale
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("skip this pair")
    page.keyboard.press("1")  # not while a dialog is open
    page.keyboard.press("Escape")
    assert len(judged(visits.shop, "vera")) == 1


def test_the_last_grade_is_taken_back(visits: Visits) -> None:
    page = visits.open("#/judge", remembers={"judge": "olga", "highest": "5"})
    expect(page.locator(".grade")).to_have_count(6)
    first = pair(page)
    page.locator(".grade", has_text="Almost exact").click()
    expect(page.get_by_text("Judged by you: 1.")).to_be_visible()
    page.keyboard.press("u")
    expect(page.get_by_text("Judged by you: 0.")).to_be_visible()
    assert pair(page) == first
    expect(page.locator('.grade[aria-pressed="true"]')).to_contain_text("Almost exact")
    expect(page.get_by_role("status")).to_have_text("The last grade is taken back.")
    page.keyboard.press("u")
    expect(page.get_by_role("status")).to_have_text("There is no grade to take back.")


def test_no_grade_is_lost(visits: Visits) -> None:
    page = visits.open("#/judge", remembers={"judge": "ivan"})
    expect(page.locator(".pair")).to_be_visible()
    graded = pair(page)
    page.route("**/v1/judgments", lambda route: route.abort())
    page.keyboard.press("1")
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    expect(page.get_by_text("1 grade is not saved yet.")).to_be_visible()
    expect(page.locator('.grade[aria-pressed="true"]')).to_contain_text("Complement")
    assert pair(page) == graded
    page.keyboard.press("0")  # another opinion replaces the one that waits
    expect(page.locator('.grade[aria-pressed="true"]')).to_contain_text("Irrelevant")
    visits.errors.clear()
    assert judged(visits.shop, "ivan") == []
    page.unroute("**/v1/judgments")
    page.reload()
    expect(page.get_by_text("Judged by you: 1.")).to_be_visible()
    assert judged(visits.shop, "ivan") == [(0, 3, "")]
    assert page.evaluate("localStorage.getItem('tilth.judgments')") is None


def test_keys_of_a_russian_keyboard_and_none(visits: Visits) -> None:
    page = visits.open("#/judge", remembers={"judge": "пётр"}, language="ru")
    expect(page.locator(".pair")).to_be_visible()
    press = """([key, code]) => document.querySelector(".pair").dispatchEvent(
        new KeyboardEvent("keydown", {key, code, bubbles: true}))"""
    page.evaluate(press, ["к", "KeyR"])
    assert focused(page) == "reason"
    page.keyboard.type("не то")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="English").click()
    page.get_by_role("button", name="Русский").click()
    expect(page.locator("#reason")).to_have_value("не то")
    page.get_by_label("Одиночные клавиши").uncheck()
    page.locator(".pair").focus()
    page.keyboard.press("3")
    page.get_by_label("Одиночные клавиши").check()
    page.locator(".pair").focus()
    page.keyboard.press("1")
    expect(page.get_by_text("Оценено вами: 1.")).to_be_visible()
    assert judged(visits.shop, "пётр") == [(1, 3, "не то")]


# --- reports and figures --------------------------------------------------------------------------


def test_reports_and_releases(visits: Visits) -> None:
    page = visits.open("#/reports")
    expect(page.get_by_text("No release is in force: the plain hybrid answers.")).to_be_visible()
    row = page.get_by_role("row", name="r1").filter(has_text="nDCG@10")
    expect(row).to_contain_text("+0.049 [+0.021; +0.078]")
    expect(page.get_by_role("row", name="too slow")).to_contain_text("returned to")
    page.get_by_role("link", name="Release r1").click()
    inner = page.frame_locator("iframe")
    expect(inner.get_by_role("heading")).to_have_css("color", "rgb(1, 2, 3)")
    words = inner.get_by_text("The style= of this word stays.")
    expect(words).to_have_css("color", "rgb(4, 5, 6)")
    expect(words).to_have_attribute("title", "a > b")
    expect(inner.locator("path")).to_have_css("stroke", "rgb(7, 8, 9)")
    inner.get_by_text("To the chart").click()
    assert inner.locator("script, img").count() == 0
    assert page.evaluate("window.hurt") is None
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as a file").click()
    assert download.value.suggested_filename == "r1.html"


def test_figures_with_intervals_and_lines(visits: Visits) -> None:
    page = visits.open("#/figures?by=arm,day&since=2026-03-01&until=2026-03-15")
    chart = page.get_by_role("img", name="clicked by day, 2026-03-01 to 2026-03-14")
    expect(chart.locator("polyline")).to_have_count(2)
    first = page.get_by_role("row", name="a 2026-03-01 10").first
    expect(first).to_contain_text("20%")
    expect(first).to_contain_text("2 of 10")
    page.get_by_label("Rate", exact=True).select_option("zero_results")
    expect(page.get_by_role("img", name="without hits by day, 2026-03-01 to 2026-03-14")).to_be_visible()
    assert "rate=zero_results" in page.url
    for name in ("arm", "day"):
        page.get_by_label(name, exact=True).uncheck()
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("row", name="all 280").first).to_contain_text("of 280")
    page.get_by_label("Before (UTC day)").fill("2026-02-01")
    page.get_by_label("From (UTC day)").fill("2026-01-01")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("No answers were served in this time.")).to_be_visible()


# --- keys and faults ------------------------------------------------------------------------------


def test_the_key_is_asked_for_and_forgotten(visits: Visits) -> None:
    page = visits.open(search("garden hose"), key="")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("This service asks for a key.")
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    page.keyboard.type("ключ")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("only Latin letters")
    page.get_by_label("Key", exact=True).fill("tilth_no_such")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("The key was refused")
    page.get_by_label("Key", exact=True).fill(visits.shop.tokens["search"])
    page.keyboard.press("Enter")
    assert len(hits(page)) == 10
    assert page.evaluate("sessionStorage.getItem('tilth.key')") == visits.shop.tokens["search"]
    assert visits.shop.tokens["search"] not in page.url
    page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_role("button", name="Forget the key")).to_have_count(0)
    page.get_by_role("link", name="Figures").click()
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("alert")).to_contain_text("An API key is needed.")


def test_a_missing_scope_is_explained(visits: Visits) -> None:
    page = visits.open("#/figures", key=visits.shop.tokens["search"])
    expect(page.get_by_role("alert")).to_contain_text("it lacks a scope")
    expect(page.get_by_role("alert")).to_contain_text("judge")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (429, "Too many requests. Try again in 7 seconds."),
        (503, "The service is not ready. Try again in 7 seconds."),
        (500, "The service failed (500)."),
        (0, "The service cannot be reached."),
    ],
)
def test_faults_are_told_and_tried_again(visits: Visits, status: int, said: str) -> None:
    page = visits.open()
    problem = {"title": "no", "status": status, "detail": "For a reason.", "request_id": "abc123"}

    def fail(route: Route) -> None:
        if status == 0:
            route.abort()
        else:
            route.fulfill(status=status, headers={"Retry-After": "7"}, json=problem)

    page.route("**/v1/search", fail)
    page.locator("#q").fill("garden hose")
    page.keyboard.press("Enter")
    alert = page.locator(".results").get_by_role("alert")
    expect(alert).to_contain_text(said)
    if status:
        expect(alert).to_contain_text("For a reason.")
        expect(alert).to_contain_text("abc123")
    page.unroute("**/v1/search")
    visits.errors.clear()
    alert.get_by_role("button", name="Try again").click()
    assert len(hits(page)) == 10


# --- for everybody --------------------------------------------------------------------------------


def test_the_language_is_the_browsers_and_is_remembered(visits: Visits) -> None:
    page = visits.open(search("секатор"), language="ru")
    expect(page.locator("html")).to_have_attribute("lang", "ru")
    assert hits(page)[0] == "Секатор садовый (откроется в новой вкладке)"
    expect(page.locator(".hit").first).to_contain_text("1 290,50 ₽")
    expect(page.get_by_role("status")).to_contain_text("товаров")
    page.get_by_role("button", name="English").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.get_by_role("heading", name="Search", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Русский")).to_be_focused()
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "en")


def settled(page: Page) -> None:
    expect(page.locator("[aria-busy]")).to_have_count(0)
    expect(page.locator(".loading")).to_have_count(0)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("scheme", "language"), [("light", "en"), ("dark", "ru")])
def test_everybody_can_use_it(visits: Visits, view: str, scheme: str, language: str) -> None:
    page = visits.open(VIEWS[view], scheme=scheme, language=language, remembers={"judge": "axel"})
    expect(page.locator("main h2, main article, main iframe").first).to_be_visible()
    settled(page)
    page.evaluate("document.querySelectorAll('main details').forEach((box) => (box.open = true))")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("view", VIEWS)
def test_it_fits_a_phone(visits: Visits, view: str) -> None:
    page = visits.open(VIEWS[view], width=375, language="ru", remembers={"judge": "axel"})
    expect(page.locator("main h2, main article, main iframe").first).to_be_visible()
    settled(page)
    page.evaluate("document.querySelectorAll('main details').forEach((box) => (box.open = true))")
    sizes = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert sizes[0] <= sizes[1]


def test_dialogs_can_be_used_by_everybody(visits: Visits) -> None:
    page = visits.open(key="")
    expect(page.get_by_role("dialog")).to_be_visible()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page = visits.open("#/judge", remembers={"judge": "axel"})
    expect(page.locator(".pair")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
