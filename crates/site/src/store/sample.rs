//! A sample catalogue and two demo members, so that a new store has something to show.
//!
//! Names, addresses and numbers are nobody's. Whatever is there already stays as it is.

use super::{NewMember, Store, StoreFault, Value};
use crate::asked::Millis;
use crate::password;

/// The password of both demo members.
pub const DEMO_PASSWORD: &str = "shikiri-demo";

/// 1 November 2026, 12:00 in Japan.
const THEN: i64 = 1_793_502_000_000;
const DAY_MS: i64 = 24 * 3600 * 1000;

/// Two seconds of a test picture each, drawn by a machine.
pub(crate) const SAMPLE_WEBM: &[u8] = include_bytes!("sample/window.webm");
pub(crate) const SAMPLE_MP4: &[u8] = include_bytes!("sample/kettle.mp4");

/// Id, kind, yen, year, minutes, titles, texts.
type Sample = (
    &'static str,
    &'static str,
    i64,
    i64,
    i64,
    [&'static str; 2],
    [&'static str; 2],
);

const PRODUCTS: &[Sample] = &[
    (
        "plan-monthly",
        "monthly",
        980,
        2026,
        0,
        ["月額プラン", "The monthly plan"],
        [
            "見放題の作品を、毎月いつでも。",
            "Every streaming film, as often as you like.",
        ],
    ),
    (
        "last-lighthouse",
        "stream",
        480,
        2025,
        94,
        ["最後の灯台", "The last lighthouse"],
        [
            "無人になる島に残った灯台守の一年。",
            "A year with the keeper who stayed on an island everybody left.",
        ],
    ),
    (
        "bread-at-four",
        "stream",
        380,
        2025,
        52,
        ["午前四時のパン", "Bread at four"],
        [
            "町で一番早い朝を焼く三人。",
            "Three people bake the earliest morning in town.",
        ],
    ),
    (
        "paper-rivers",
        "stream",
        480,
        2024,
        88,
        ["紙の川", "Paper rivers"],
        [
            "和紙の里で、水の音を聞く。",
            "Listening to water in a village of paper makers.",
        ],
    ),
    (
        "night-trains",
        "stream",
        580,
        2024,
        107,
        ["夜汽車の地図", "A map of night trains"],
        [
            "眠る人々を乗せて、線路は続く。",
            "The rails go on under people asleep.",
        ],
    ),
    (
        "winter-orchard",
        "stream",
        380,
        2023,
        61,
        ["冬の果樹園", "Winter orchard"],
        [
            "剪定の音だけが響く、静かな季節。",
            "A quiet season, and the sound of shears.",
        ],
    ),
    (
        "clockmaker",
        "stream",
        480,
        2022,
        79,
        ["時計師の午後", "The clockmaker's afternoon"],
        [
            "百年止まらなかった時計を、一度だけ止める。",
            "A clock that ran a hundred years is stopped, once.",
        ],
    ),
    (
        "slow-harbour",
        "stream",
        380,
        2021,
        70,
        ["ゆっくりした港", "A slow harbour"],
        ["渡し船がなくなる前の夏。", "The last summer of a ferry."],
    ),
    (
        "course-sashiko",
        "download",
        1800,
        2025,
        140,
        ["刺し子入門", "Sashiko, a first course"],
        [
            "針と糸だけで始める、五回の講座。",
            "Five lessons with a needle and a thread.",
        ],
    ),
    (
        "course-sourdough",
        "download",
        2200,
        2024,
        165,
        ["天然酵母のパン講座", "A course in sourdough"],
        [
            "種起こしから焼き上がりまで。",
            "From the starter to the crust.",
        ],
    ),
    (
        "course-joinery",
        "download",
        2800,
        2023,
        210,
        ["木組みの基礎", "Joinery without nails"],
        [
            "釘を使わない継手と仕口。",
            "Joints that hold by themselves.",
        ],
    ),
    (
        "course-field-sound",
        "download",
        1600,
        2022,
        118,
        ["野外録音の手引き", "Recording outdoors"],
        [
            "風を防ぎ、静けさを録る。",
            "Keeping the wind out and the quiet in.",
        ],
    ),
    (
        "disc-lighthouse",
        "disc",
        3200,
        2025,
        94,
        ["最後の灯台（ディスク）", "The last lighthouse, on disc"],
        [
            "監督の音声解説と、島の小さな本つき。",
            "With the director's commentary and a small book of the island.",
        ],
    ),
    (
        "disc-night-trains",
        "disc",
        3600,
        2024,
        107,
        ["夜汽車の地図（ディスク）", "A map of night trains, on disc"],
        ["路線図のポスターつき。", "With a poster of the lines."],
    ),
    (
        "disc-shorts",
        "disc",
        2900,
        2021,
        126,
        ["短編集 十二の窓", "Twelve windows: short films"],
        [
            "十二人の監督が撮った、十二の部屋。",
            "Twelve rooms by twelve directors.",
        ],
    ),
];

/// Nickname (of the mail address too), delivery data, what was bought, watched and written.
struct Demo {
    mail: &'static str,
    nickname: &'static str,
    status: &'static str,
    delivery: [&'static str; 4],
    orders: &'static [(&'static str, &'static [(&'static str, &'static str)])],
    watched: &'static [&'static str],
    reviews: &'static [(&'static str, i64, &'static str)],
    points: i64,
    cart: &'static [&'static str],
    /// Of which order, and how much.
    payment: Option<(&'static str, i64)>,
}

const DEMOS: &[Demo] = &[
    Demo {
        mail: "hanako@example.test",
        nickname: "はなこ",
        status: "monthly",
        delivery: [
            "見本 花子",
            "000-0001",
            "架空県見本市一丁目1-1",
            "000-0000-0001",
        ],
        orders: &[
            (
                "samplehanako1",
                &[
                    ("disc-lighthouse", "delivered"),
                    ("course-sashiko", "bought"),
                ],
            ),
            ("samplehanako2", &[("plan-monthly", "bought")]),
        ],
        watched: &["last-lighthouse", "bread-at-four"],
        reviews: &[(
            "last-lighthouse",
            5,
            "最後の場面で、息をするのを忘れました。",
        )],
        points: 320,
        cart: &["paper-rivers", "disc-shorts"],
        payment: Some(("samplehanako1", 5000)),
    },
    Demo {
        mail: "taro@example.test",
        nickname: "Taro",
        status: "regular",
        delivery: [
            "仮名 太郎",
            "000-0002",
            "架空県見本市二丁目2-2",
            "000-0000-0002",
        ],
        orders: &[(
            "sampletaro1",
            &[
                ("disc-night-trains", "shipping"),
                ("night-trains", "bought"),
            ],
        )],
        watched: &["night-trains"],
        reviews: &[
            ("last-lighthouse", 4, "Slow, and worth every minute."),
            ("night-trains", 3, "I fell asleep, fittingly."),
        ],
        points: 50,
        cart: &["course-joinery"],
        payment: None,
    },
];

/// Fills an empty store. One that has products is left alone.
///
/// # Errors
/// The store fails.
pub fn fill(store: &Store) -> Result<(), StoreFault> {
    if !store.shelf.search("", 0)?.products.is_empty() {
        return Ok(());
    }
    store.desk.fill(products)?;
    let password = password::hash(DEMO_PASSWORD);
    DEMOS
        .iter()
        .try_for_each(|demo| member(store, demo, &password))
}

/// The catalogue alone.
pub(super) fn products(sql: &mut dyn super::Sql) -> Result<(), StoreFault> {
    PRODUCTS.iter().try_for_each(|it| product(sql, it))
}

/// Its ids, kinds and prices, by id.
pub(super) fn wares() -> Vec<(String, String, i64)> {
    let ware =
        |(id, kind, price_yen, ..): &Sample| ((*id).to_owned(), (*kind).to_owned(), *price_yen);
    let mut all: Vec<_> = PRODUCTS.iter().map(ware).collect();
    all.sort();
    all
}

fn product(sql: &mut dyn super::Sql, sample: &Sample) -> Result<(), StoreFault> {
    let (id, kind, price_yen, year, minutes, [title_ja, title_en], [about_ja, about_en]) = *sample;
    let words = [title_ja, title_en, about_ja, about_en]
        .join(" ")
        .to_lowercase();
    let text = "INSERT INTO products (id, kind, price_yen, year, minutes, title_ja, title_en, about_ja, about_en, words) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let with = [
        id.into(),
        kind.into(),
        price_yen.into(),
        year.into(),
        minutes.into(),
        title_ja.into(),
        title_en.into(),
        about_ja.into(),
        about_en.into(),
        Value::from(&words),
    ];
    sql.run(text, &with).map(drop)
}

fn member(store: &Store, demo: &Demo, password: &str) -> Result<(), StoreFault> {
    let new = NewMember {
        mail: demo.mail,
        nickname: demo.nickname,
        password,
    };
    let Ok(member) = store.desk.register(&new, Millis(THEN))? else {
        return Ok(());
    };
    let [name, postcode, address, phone] = demo.delivery.map(str::to_owned);
    store.desk.set_delivery(
        &member,
        &super::Delivery {
            name,
            postcode,
            address,
            phone,
        },
    )?;
    let id = || Value::from(member.text());
    store.desk.fill(|sql| {
        sql.run(
            "UPDATE members SET status = $1 WHERE id = $2",
            &[demo.status.into(), id()],
        )?;
        for (nth, (order, lines)) in (1..).zip(demo.orders) {
            let placed = THEN + nth * DAY_MS;
            let text = "INSERT INTO orders (id, member, placed_ms) VALUES ($1, $2, $3)";
            sql.run(text, &[(*order).into(), id(), placed.into()])?;
            for (line, (product, state)) in (1..).zip(*lines) {
                let text = "INSERT INTO order_lines (order_id, line, product, price_yen, state) \
                            SELECT $1, $2, p.id, p.price_yen, $3 FROM products p WHERE p.id = $4";
                let line = Value::Int(line);
                sql.run(
                    text,
                    &[(*order).into(), line, (*state).into(), (*product).into()],
                )?;
            }
        }
        for (nth, product) in (1..).zip(demo.watched) {
            let text = "INSERT INTO viewings (member, product, last_ms) VALUES ($1, $2, $3)";
            sql.run(
                text,
                &[id(), (*product).into(), (THEN + nth * DAY_MS).into()],
            )?;
        }
        desks(sql, &member, demo)?;
        for (nth, product) in (1..).zip(demo.cart) {
            let text = "INSERT INTO carts (member, product, added_ms) VALUES ($1, $2, $3)";
            sql.run(text, &[id(), (*product).into(), (THEN + nth).into()])?;
        }
        if demo.status == "monthly" {
            // Of the second order. Paid for ten years: nobody agreed to be charged.
            let text = "INSERT INTO memberships (id, member, product, state, price_yen, mandate, since_ms, anchor_ms, months, \
                        paid_until_ms, next_ms, tries) VALUES ($1, $2, 'plan-monthly', 'active', 980, '', $3, $4, 120, $5, $6, 0)";
            let (since, until) = (THEN + 2 * DAY_MS, THEN + 3650 * DAY_MS);
            let with = [
                "samplehanako2".into(),
                id(),
                since.into(),
                since.into(),
                until.into(),
                until.into(),
            ];
            sql.run(text, &with)?;
        }
        if let Some((order, amount_yen)) = demo.payment {
            let text = "INSERT INTO payments (id, member, amount_yen, state, reference, page, lang, mandate, whole_at_once, \
                        captured_yen, refunded_yen, planned_ms, authorised_ms) \
                        VALUES ($1, $2, $3, 'captured', '', '', 'ja', '', 1, $4, 0, $5, $6)";
            let at = || Value::from(THEN + DAY_MS);
            let with = [order.into(), id(), amount_yen.into(), amount_yen.into(), at(), at()];
            sql.run(text, &with)?;
        }
        Ok(())
    })?;
    for (product, stars, text) in demo.reviews {
        store
            .desk
            .write_review(&member, product, *stars, text, Millis(THEN + 3 * DAY_MS))?;
    }
    let welcome = super::PointsEntry {
        amount: demo.points,
        reason: "welcome".to_owned(),
        at: Millis(THEN),
        usable_from: Millis(THEN),
        expires: Millis(THEN + 400 * DAY_MS),
    };
    store.desk.grant_points(&member, &welcome).map(drop)
}

/// A published video, an enquiry, a notice with two questions.
fn desks(
    sql: &mut dyn super::Sql,
    member: &crate::member::MemberId,
    demo: &Demo,
) -> Result<(), StoreFault> {
    let id = || Value::from(member.text());
    let name = demo.mail.split('@').next().unwrap_or_default();
    let (video, bytes, title) = match name {
        "hanako" => ("webm", SAMPLE_WEBM, "窓の試し撮り"),
        _ => ("mp4", SAMPLE_MP4, "My kettle"),
    };
    let post = Value::Text(format!("samplepost{name}"));
    let text = "INSERT INTO posts (id, member, title, video, digest, state, why, posted_ms) \
                VALUES ($1, $2, $3, $4, $5, 'published', '', $6)";
    let digest = blake3::hash(bytes).to_hex().to_string();
    let with = [
        post.clone(),
        id(),
        title.into(),
        video.into(),
        Value::from(&digest),
        THEN.into(),
    ];
    sql.run(text, &with)?;
    let text = "INSERT INTO post_bytes (post, nth, hex) VALUES ($1, 0, $2)";
    sql.run(text, &[post, Value::from(&crate::posts::hex(bytes))])?;

    let enquiry = format!("sampleenquiry{name}");
    let words = (
        crate::support::Topic::Other,
        "見本の問い合わせ / A sample enquiry",
        "届きましたか。\nDid this arrive?",
    );
    crate::support::open_enquiry(sql, &enquiry, member, words, Millis(THEN))?;

    let code = Value::Text(format!("N-sample-{name}"));
    let text = "INSERT INTO notices (code, member, text_ja, text_en, kinds, issued_ms) VALUES ($1, $2, $3, $4, 'nickname mail', $5)";
    let words = [
        "見本のお知らせです。事故はありませんでした。",
        "A sample notice: there was no incident.",
    ];
    sql.run(
        text,
        &[
            code.clone(),
            id(),
            words[0].into(),
            words[1].into(),
            THEN.into(),
        ],
    )?;
    for (nth, question, about) in [
        (1, "payment", ["見本のお支払い", "A sample payment"]),
        (2, "payout", ["見本のお詫び金", "What a sample store owes"]),
    ] {
        let text = "INSERT INTO choices (id, member, notice, question, about_ja, about_en, amount_yen, order_id, line, answer, \
                    answered_ms, answer_by_ms, done, link_used, linked_until_ms) \
                    VALUES ($1, $2, $3, $4, $5, $6, 500, '', 0, '', 0, $7, 0, 1, 0)";
        let choice = Value::Text(format!("C-sample-{name}-{nth}"));
        let [ja, en] = about.map(Value::from);
        sql.run(
            text,
            &[
                choice,
                id(),
                code.clone(),
                question.into(),
                ja,
                en,
                (THEN + 3650 * DAY_MS).into(),
            ],
        )?;
    }
    Ok(())
}
