# People use the store in browsers: they register, buy, watch, write and leave, in both languages, on a phone and
# on a desk, and without JavaScript; two members and a visitor look at everything at once.
#
# Arguments: the edge's port, the browser's program, shikiri's program, the folder for pictures, and the names
# of walks (all when there is none). What is wrong is printed, and then the exit status is 1.
import asyncio
import json
import os
import pathlib
import re
import subprocess
import sys
import time

from playwright.async_api import async_playwright, expect

import look

PORT, CHROMIUM, SHIKIRI, FOLDER = sys.argv[1:5]
FOLDER = pathlib.Path(FOLDER)
SHOP, MEDIA = f"http://localhost:{PORT}", f"http://media.localhost:{PORT}"
SAMPLE = pathlib.Path(__file__).parents[3] / "site/src/store/sample/window.webm"
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
PASSWORD = "shikiri-demo"
PATIENCE_MS = 20_000
HANAKO = ["hanako@example.test", "見本 花子", "000-0000-0001"]
TARO = ["taro@example.test", "仮名 太郎", "000-0000-0002"]

# What people look for to press, fill and read.
WORDS = {
    "ja": {
        "search": "灯台", "found": "最後の灯台", "as a member": "はじめての方は会員登録", "to register": "登録する", "mail": "メールアドレス",
        "nickname": "ニックネーム", "password": "パスワード", "account": "マイページ", "log in": "ログイン", "log out": "ログアウト",
        "buy": "購入する", "into cart": "カートに入れる", "checkout": "ご購入手続きへ", "place": "注文を確定する",
        "no address": "先にお届け先をご登録ください。", "to pay": "お支払いページへ", "number": "カード番号", "pay": "支払う",
        "declined": "カードが承認されませんでした。", "paid": "お支払いを確認しました。", "order": "ご注文を見る", "watch": "視聴する",
        "download": "ダウンロードする", "save file": "ファイルを保存する", "play": "再生する",
        "delivery": "お届け先", "fields": ["お名前", "郵便番号", "ご住所", "電話番号"], "save": "保存する",
        "review": "レビューを書く", "stars": "評価", "publish": "投稿する", "title": "題名", "file": "動画ファイル",
        "waiting": "確認中", "published": "公開中", "leave": "退会する", "leaving": "お支払い済みの期間の終わりに退会となります。", "stay": "退会を取りやめる",
        "about": "ご用件", "subject": "件名", "text": "本文", "send": "送信する", "reply": "返信する",
        "cancel": "「最後の灯台（ディスク）」を取り消す", "cancel it": "この品を取り消す", "cancelled": "取消し",
        "wrong": "メールアドレスかパスワードが違います。", "not found": "ページが見つかりません", "bought": "購入済み",
        "unaffected": "現在の記録では", "preparing": "発送準備中", "points": "使うポイント", "back": "支払わずに戻る",
    },
    "en": {
        "search": "lighthouse", "found": "The last lighthouse", "as a member": "Register as a member", "to register": "Register", "mail": "Mail address",
        "nickname": "Nickname", "password": "Password", "account": "My account", "log in": "Log in", "log out": "Log out",
        "buy": "Buy", "into cart": "Put into the cart", "checkout": "To the checkout", "place": "Place the order",
        "no address": "Please give an address first.", "to pay": "To the payment page", "number": "Card number", "pay": "Pay",
        "declined": "The card was declined.", "paid": "Your payment is confirmed.", "order": "See the order", "watch": "Watch",
        "download": "Download", "save file": "Save the file", "play": "Play",
        "delivery": "Delivery address", "fields": ["Name", "Postcode", "Address", "Phone"], "save": "Save",
        "review": "Write a review", "stars": "Stars", "publish": "Publish", "title": "Title", "file": "Video file",
        "waiting": "Waiting to be looked at", "published": "Published", "leave": "Leave", "leaving": "Your membership ends with the month that is paid.",
        "stay": "Stay after all", "about": "About", "subject": "Subject", "text": "Text", "send": "Send", "reply": "Reply",
        "cancel": "Cancel The last lighthouse, on disc", "cancel it": "Cancel this", "cancelled": "Cancelled",
        "wrong": "The mail address or the password is wrong.", "not found": "There is no such page", "bought": "Bought",
        "unaffected": "no incident concerned you", "preparing": "Being shipped", "points": "Points to use", "back": "Back without paying",
    },
}
GOODS = {
    "last-lighthouse": ("最後の灯台", "The last lighthouse"),
    "course-sashiko": ("刺し子入門", "Sashiko, a first course"),
    "disc-lighthouse": ("最後の灯台（ディスク）", "The last lighthouse, on disc"),
    "plan-monthly": ("月額プラン", "The monthly plan"),
}

# What was wrong, of all walks.
WRONG = []


class Person:
    """Somebody at a browser, with a name, a language and a screen."""

    def __init__(self, name, lang, page, looks=True):
        self.name, self.lang, self.page, self.looks = name, lang, page, looks
        self.words = WORDS[lang]
        # Address, status, Cache-Status and whether a part was asked for, of every answer.
        self.answers = []
        self.pending = set()
        page.set_default_timeout(PATIENCE_MS)
        page.context.on("response", self.note)

    def note(self, response):
        fields = response.headers
        self.answers.append((response.url, response.status, fields.get("cache-status", ""), "content-range" in fields))

    async def go(self, path):
        return await self.page.goto(path if ":" in path else SHOP + path, wait_until="load")

    async def to(self, path):
        """A page of the store, in this person's language."""
        return await self.go(f"/{self.lang}/{path}")

    async def press(self, word, role="button"):
        await self.page.locator("main").get_by_role(role, name=self.words.get(word, word), exact=True).first.click()

    async def fill(self, word, text):
        await self.page.locator("main").get_by_label(self.words.get(word, word)).fill(text)

    async def reads(self, word):
        await expect(self.page.locator("main")).to_contain_text(self.words.get(word, word), timeout=PATIENCE_MS)

    async def look(self, what, ours=True):
        """Keeps a picture, and looks for what is wrong."""
        await self.page.screenshot(path=FOLDER / "pictures" / f"{self.name}-{what}.png", full_page=True)
        if self.looks:
            for it in await look.faults(self.page, ours):
                WRONG.append(f"{self.name}, {what} ({self.page.url}): {it}")

    async def log_in(self, mail, password=PASSWORD):
        await self.to("login")
        await self.fill("mail", mail)
        await self.fill("password", password)
        await self.press("log in")


def must(is_so, why):
    if not is_so:
        raise AssertionError(why)


async def register(it):
    await it.to("")
    await it.look("home")
    WRONG.extend(f"{it.name}, home: {why}" for why in (await look.unseen_focus(it.page, 12) if it.looks else []))
    box = it.page.get_by_role("searchbox")
    await box.fill(it.words["search"])
    await box.press("Enter")
    await it.page.wait_for_url("**/films?q=*")
    await it.reads("found")
    await it.look("search")
    await it.to("nowhere")
    await expect(it.page.locator("h1")).to_have_text(it.words["not found"])
    await it.look("not-found")
    await it.to("account")
    await it.look("log-in")
    await it.press("as a member", "link")
    await it.fill("mail", f"{it.name}@example.test")
    await it.fill("nickname", it.name)
    await it.fill("password", "too short")
    await it.press("to register")
    await expect(it.page.get_by_role("alert")).to_be_visible()
    await it.look("register-refused")
    await it.fill("password", PASSWORD)
    await it.press("to register")
    await expect(it.page.locator("h1")).to_have_text(it.words["account"])
    await it.reads(f"{it.name}@example.test")
    await it.look("account")


async def give_address(it, phone):
    await it.to("account")
    await it.press("delivery", "link")
    for field, text in zip(it.words["fields"], ["試験 一郎", "000-0009", "架空県見本市九丁目9-9", phone]):
        await it.fill(field, text)
    await it.look("delivery")
    await it.press("save")
    await expect(it.page.get_by_label(it.words["fields"][3])).to_have_value(phone)


async def buy(it):
    """One of each kind, after what goes wrong: no address, a card that is declined."""
    for product in GOODS:
        await it.to(f"products/{product}")
        if product in ("last-lighthouse", "plan-monthly"):
            await it.look(f"product-{product}")
        await it.press("buy", "link")
        await it.look("offer")
        await it.press("into cart")
        await it.reads(GOODS[product][it.lang == "en"])
    await it.look("cart")
    await it.press("checkout", "link")
    await it.press("place")
    await it.reads("no address")
    await it.look("checkout-refused")
    await give_address(it, "000-0000-0008")
    await it.to("checkout")
    await it.look("checkout")
    await it.press("place")
    await it.look("payment")
    await it.press("to pay", "link")
    must(not it.page.url.startswith(SHOP), "the processor's page is the store's own")
    await it.look("processor", ours=False)
    await it.fill("number", "4000 0000 0000 0002")
    await it.press("pay")
    await it.reads("declined")
    await it.look("processor-declined", ours=False)
    await it.fill("number", "4242 4242 4242 4242")
    await it.press("pay")
    await it.page.wait_for_url(f"{SHOP}/**")
    await it.reads("paid")
    await it.look("paid")
    await it.press("order", "link")
    for names in GOODS.values():
        await it.reads(names[it.lang == "en"])
    await it.look("order")
    await it.to("account/orders")
    for word in ("bought", "preparing"):
        await it.reads(word)
    await it.look("orders")
    await it.to("account/membership")
    await expect(it.page.get_by_role("button", name=it.words["leave"], exact=True)).to_be_visible()
    await it.look("membership")


async def plays(it, from_s):
    """The film on the page plays, and goes on from another place when it is sought there."""
    film = it.page.locator("video")
    began = await film.evaluate("(it) => { const at = it.currentTime; it.play(); return at; }")
    # A film that is opened by itself, without a page around it, plays at once.
    must(began < from_s / 2, f"it began at {began}, where nobody sought it")
    until = time.monotonic() + PATIENCE_MS / 1000
    at = 0
    while at < 0.2:
        must(time.monotonic() < until, f"{it.page.url} does not play: {await told(film)}")
        at = await film.evaluate("(it) => it.currentTime")
    # On a slow machine a short one may be at its end by now.
    await film.evaluate("(it, to) => { it.currentTime = to; it.play(); }", from_s)
    at = 0
    while at < from_s + 0.2:
        must(time.monotonic() < until, f"{it.page.url} does not go on from {from_s} s: {await told(film)}")
        at = await film.evaluate("(it) => it.seeking ? 0 : it.currentTime")
    return await film.evaluate("(it) => it.currentSrc")


async def told(film):
    return await film.evaluate(
        "(it) => `at ${it.currentTime} of ${it.duration}, ready ${it.readyState}, ${it.error && it.error.message}`"
    )


async def watch(it):
    await it.to("products/last-lighthouse")
    await it.press("watch")
    playlist = await plays(it, 13)
    must(playlist.startswith(f"{MEDIA}/t/"), f"the film came from {playlist}")
    await it.look("player")
    # The same as one file, as browsers play it that know no playlists: by ranges.
    file = await it.page.locator("video source").nth(1).get_attribute("src")
    await it.go(file)
    must((await plays(it, 13)).endswith("/film.webm"), "another film plays")
    parts = [status for url, status, _, is_part in it.answers if url == file and is_part]
    must(206 in parts, f"no part of {file} was asked for: {parts}")
    await it.to("products/course-sashiko")
    await it.press("download")
    async with it.page.expect_download() as coming:
        await it.press("save file", "link")
    saved = pathlib.Path(await (await coming.value).path())
    must(saved.read_bytes()[4:8] == b"ftyp", "what was saved is no film")
    await it.to("account/watched")
    for product in ("last-lighthouse", "course-sashiko"):
        await it.reads(GOODS[product][it.lang == "en"])
    await it.look("watched")
    await it.to("watch/night-trains")
    await it.look("player-before")


async def write(it):
    await it.to("products/last-lighthouse")
    await it.press("review", "link")
    await it.page.get_by_label(it.words["stars"]).select_option("4")
    await it.page.locator("main textarea").fill(f"静かな一年。 A quiet year, says {it.name}.")
    await it.look("review")
    await it.press("publish")
    await it.reads(f"says {it.name}.")
    await it.look("reviews")
    await it.to("account/videos")
    await it.fill("title", f"by {it.name}")
    await it.page.get_by_label(it.words["file"]).set_input_files(SAMPLE)
    await it.page.locator("main form.fields button").click()
    await it.reads("waiting")
    await it.look("videos")
    waiting = operator("site", "posts", "waiting", "--data", FOLDER / "data/site")
    post = re.search(rf"(\S+)\s[^\n]*by {it.name}", waiting)
    must(post, f"nobody is told of the video: {waiting}")
    operator("site", "posts", "publish", "--data", FOLDER / "data/site", post[1])
    await it.page.reload()
    await it.reads("published")
    await it.press(f"by {it.name}", "link")
    await plays(it, 1)
    await it.look("video")
    await it.to("account/support")
    await it.page.get_by_label(it.words["about"]).select_option("order")
    await it.fill("subject", "届きません / Nothing came")
    await it.fill("text", "いつ届きますか。\nWhen does it come?")
    await it.look("support")
    await it.press("send")
    await it.reads("When does it come?")
    enquiry = it.page.url.rsplit("/", 1)[1]
    operator("site", "answer", "--data", FOLDER / "data/site", enquiry, "明日です。 Tomorrow.")
    await it.page.reload()
    await it.reads("Tomorrow.")
    await it.look("enquiry")
    await it.fill("text", "ありがとう。 Thank you.")
    await it.press("reply")
    await it.reads("Thank you.")


async def leave(it):
    await it.to("account/orders")
    await it.page.locator("main section a").first.click()
    await it.press("cancel", "link")
    await it.look("cancel")
    await it.press("cancel it")
    await it.reads("cancelled")
    await it.to("account/membership")
    await it.press("leave")
    await it.reads("leaving")
    await it.look("left")
    await it.press("stay")
    await it.press("leave")
    await it.reads("leaving")
    await give_address(it, "000-0000-0007")
    await it.to("account/notices")
    await it.reads("unaffected")
    await it.page.locator("header").get_by_role("button", name=it.words["log out"]).click()
    await it.to("account/delivery")
    await expect(it.page.locator("h1")).to_have_text(it.words["log in"])
    await it.log_in(f"{it.name}@example.test", "not my password")
    await it.reads("wrong")
    await it.look("log-in-refused")
    await it.log_in(f"{it.name}@example.test")
    await it.reads(f"{it.name}@example.test")


def operator(*words):
    """What somebody who runs the store does."""
    done = subprocess.run([SHIKIRI, *map(str, words)], capture_output=True, text=True, timeout=60)
    must(done.returncode == 0, f"shikiri {words}: {done.stderr}")
    return done.stdout


async def member(open_page, name, lang, screen):
    it = await open_page(name, lang, screen)
    for step in (register, buy, watch, write, leave):
        await step(it)


async def japanese(open_page):
    await member(open_page, "ja-phone", "ja", PHONE)


async def english(open_page):
    await member(open_page, "en-desk", "en", DESK)


async def without_scripts(open_page):
    """All of buying works where no script may run; that none may is seen first."""
    it = await open_page("no-script", "en", PHONE, looks=False, java_script_enabled=False)
    for person, said in (it, "no"), (await open_page("script", "en", PHONE, looks=False), "yes"):
        await person.go("data:text/html,<main>no</main><script>document.querySelector('main').textContent='yes'</script>")
        must(await person.page.locator("main").text_content() == said, f"{person.name} does not say {said}")
    await register(it)
    await buy(it)


async def everything_at_once(open_page):
    """Two members and a visitor walk every page at the same time: each sees only itself, and what is shared is a hit."""
    pages = json.loads(operator("site", "pages", "--json"))["pages"]
    pages = [it for it in pages if it["method"] == "GET"]
    hanako = await open_page("hanako", "ja", DESK, color_scheme="dark")
    taro = await open_page("taro", "en", PHONE, color_scheme="dark")
    visitor = await open_page("visitor", "en", DESK, looks=False)
    await asyncio.gather(hanako.log_in(HANAKO[0]), taro.log_in(TARO[0]), visitor.to(""))
    seen = await asyncio.gather(*(walk(it, pages) for it in (hanako, taro, visitor)))
    for person, text, own, foreign in [
        (hanako, seen[0], HANAKO, TARO),
        (taro, seen[1], TARO, HANAKO),
        (visitor, seen[2], [], HANAKO + TARO),
    ]:
        # What is looked for in vain elsewhere is there where it belongs.
        must(all(mark in text for mark in own), f"{person.name} does not see all of {own}")
        must(not any(mark in text for mark in foreign), f"{person.name} sees one of {foreign}")
    # Whoever comes later is shown copies of all that is everybody's; pictures as browsers ask for them.
    late = await open_page("late", "en", DESK, looks=False)
    await walk(late, pages)
    shared = [it for it in pages if it["server"] == "store" and it["class"] != "personal"]
    paths = {SHOP + path for it in shared for path in it["crawl"]}
    theirs = [it for it in late.answers if it[0] in paths or it[0].startswith(MEDIA) and it[1] < 400]
    # On a slow machine a copy may have become old meanwhile: it was shared all the same.
    missed = [it for it in theirs if "; hit" not in it[2] and "fwd=stale" not in it[2]]
    must(len(theirs) > 15 and not missed, f"of {len(theirs)}, no hits: {missed}")
    # Nothing of a member's is a hit for anybody.
    personal = {SHOP + path for it in pages if it["class"] == "personal" for path in it["crawl"]}
    for person in (hanako, taro, visitor, late):
        hits = [it for it in person.answers if it[0] in personal and "; hit" in it[2]]
        must(not hits, f"{person.name} was shown copies: {hits}")
    # A film that a member watches is another's hit, at places where nobody has been waited for.
    for person in (hanako, taro):
        await person.to("products/night-trains")
        await person.press("watch")
        person.answers.clear()
        await person.page.reload()
        await plays(person, 9)
        await person.look("player")
        await person.go(await person.page.locator("video source").nth(1).get_attribute("src"))
        await plays(person, 9)
    for kind in (".m3u8", ".m4s", ".webm"):
        films = [it for it in taro.answers if it[0].endswith(kind)]
        must(films and all("; hit" in it[2] for it in films), f"no hits of {kind}: {films}")
    must(any(it[1] == 206 and it[3] for it in films), f"no part of it was asked for: {films}")


async def walk(it, pages):
    """Shows a person every page there is; returns all that they saw."""
    text = ""
    for page in pages:
        for nth, path in enumerate(page["crawl"]):
            if page["server"] != "store" or page["class"] == "media" or path.startswith("/static"):
                continue
            await it.go(path)
            text += await it.page.content()
            if nth == 0 and it.looks:
                await it.look("page-" + page["page"].replace("/", "-"))
    return text


async def closed(open_page):
    """What members are shown while the edge is closed."""
    it = await open_page("closed", "ja", PHONE, looks=False)
    control = ("--control", FOLDER / "data/edge/control.sock")
    operator("mode", "closed", "--reason", "trial", "--reopening", "30m", *control)
    try:
        answer = await it.to("")
        must(answer.status == 503, f"a closed site answers {answer.status}")
        await it.look("closed")
    finally:
        operator("mode", "open", "--reason", "the trial is over", *control)


WALKS = {"japanese": japanese, "english": english, "without_scripts": without_scripts}
# One after the other: they look at what the others did, and close the site.
THEN = {"everything_at_once": everything_at_once, "closed": closed}


async def main():
    wanted = sys.argv[5:] or [*WALKS, *THEN]
    unknown = [it for it in wanted if it not in {**WALKS, **THEN}]
    must(not unknown, f"no walk is called {unknown}; there are {[*WALKS, *THEN]}")
    async with async_playwright() as playwright:
        launch = dict(executable_path=CHROMIUM, env=dict(os.environ), args=["--autoplay-policy=no-user-gesture-required"])
        # Two browsers: members of the one are strangers to the other in every respect.
        browsers = [await playwright.chromium.launch(**launch) for _ in range(2)]
        opened = []

        async def open_page(name, lang, screen, looks=True, **more):
            browser = browsers[len(opened) % 2]
            context = await browser.new_context(viewport=screen, locale={"ja": "ja-JP", "en": "en-GB"}[lang], **more)
            person = Person(name, lang, await context.new_page(), looks)
            opened.append(person)
            return person

        async def one(name, walk):
            begun = time.monotonic()
            try:
                await walk(open_page)
            except Exception as error:
                WRONG.append(f"{name}: {type(error).__name__}: {error}")
                for person in opened:
                    picture = FOLDER / "pictures" / f"failed-{person.name}.png"
                    await person.page.screenshot(path=picture)
            print(f"browser: {name}, {time.monotonic() - begun:.1f} s", flush=True)

        print(f"browser: Chromium {browsers[0].version}", flush=True)
        bare = await (await browsers[0].new_context()).new_page()
        await look.controls(bare)
        await asyncio.gather(*(one(name, walk) for name, walk in WALKS.items() if name in wanted))
        for name, walk in THEN.items():
            if name in wanted:
                await one(name, walk)
        answers = sum(len(it.answers) for it in opened)
        for browser in browsers:
            await browser.close()
    for it in WRONG:
        print(f"browser: WRONG: {it}")
    pictures = len(list((FOLDER / "pictures").iterdir()))
    print(f"browser: {answers} answers, {pictures} pictures in {FOLDER / 'pictures'}, {len(WRONG)} wrong")
    return 1 if WRONG else 0


sys.exit(asyncio.run(main()))
