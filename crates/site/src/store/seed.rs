//! A plausible store of any size: members of a seed, with what they bought, watched, wrote and earned.
//!
//! Names are made of words of the printer's trade, addresses lie in prefectures that there are not, post
//! codes and telephone numbers begin as none does, and mail goes to `example.test`: all of it is
//! nobody's. Money moved elsewhere: like the demo members' orders, these are in no processor's books,
//! are not charged again and cannot be cancelled here.
//!
//! Invariant: the same seed makes the same rows, member by member, however many there are. They are
//! written in one transaction: all are there, or none.

use std::collections::BTreeSet;

use super::{Sql, Store, StoreFault, Value, sample};
use crate::asked::Millis;
use crate::member::derived_id;
use crate::password;

/// The most members that are made at once.
pub const MEMBERS_MAX: u32 = 1_000_000;

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Seeding {
    /// How many members, up to [`MEMBERS_MAX`].
    pub members: u32,
    /// How many of them have delivery data, and so may have bought discs.
    pub delivery: u32,
    pub seed: u64,
    /// All have [`DEMO_PASSWORD`](super::DEMO_PASSWORD), by one hash for all; otherwise none can log in.
    pub can_log_in: bool,
    /// Also where there are members whose mail is not of `example.test`.
    pub beside_members: bool,
}

/// Rows that were made, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seeded {
    pub members: u64,
    pub deliveries: u64,
    pub orders: u64,
    pub lines: u64,
    pub memberships: u64,
    pub viewings: u64,
    pub reviews: u64,
    /// Entries of the ledger.
    pub points: u64,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum NotSeeded {
    #[error("there are {0} members whose mail is not of example.test")]
    RealMembers(i64),
    #[error("members of this seed are there already")]
    SeedIsThere,
    #[error(
        "there can be {MEMBERS_MAX} members at the most, and no more of them with delivery data"
    )]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreFault),
}

/// Fills a store, with the sample catalogue where it has no products. `told` hears now and then how
/// many members are done.
///
/// # Errors
/// See [`NotSeeded`]; then nothing was written but the catalogue.
pub fn seed(store: &Store, what: &Seeding, mut told: impl FnMut(u32)) -> Result<Seeded, NotSeeded> {
    if store.shelf.search("", 0)?.products.is_empty() {
        store.desk.fill(sample::products)?;
    }
    let wares = check(store, what)?;
    let password = match what.can_log_in {
        true => password::hash(super::DEMO_PASSWORD),
        false => NO_PASSWORD.to_owned(),
    };
    store
        .desk
        .fill(|sql| {
            let mut seeded = Seeded::default();
            let mut batch = Batch::default();
            for nth in 0..what.members {
                seeded.add(&member(what, &wares, &password, nth, &mut batch));
                if (nth + 1) % TOLD_EVERY == 0 || nth + 1 == what.members {
                    batch.write(sql)?;
                    told(nth + 1);
                }
            }
            Ok(seeded)
        })
        .map_err(NotSeeded::Store)
}

/// What [`seed`] would make of a store that has products.
///
/// # Errors
/// As there.
pub fn seed_dry(store: &Store, what: &Seeding) -> Result<Seeded, NotSeeded> {
    let mut wares = check(store, what)?;
    if wares.streams.is_empty() {
        wares = Wares::of(sample::wares());
    }
    let mut seeded = Seeded::default();
    for nth in 0..what.members {
        seeded.add(&member(
            what,
            &wares,
            NO_PASSWORD,
            nth,
            &mut Batch::default(),
        ));
    }
    Ok(seeded)
}

/// What no password hashes to.
const NO_PASSWORD: &str = "none";
const TOLD_EVERY: u32 = 500;
/// Rows of one statement.
const ROWS: usize = 20;
/// 1 November 2026, 12:00 in Japan: when all this has happened.
const THEN: i64 = 1_793_502_000_000;
const DAY_MS: i64 = 24 * 3600 * 1000;
/// How long before then the first came.
const DAYS: u64 = 2200;

/// Words that are nobody's family name: kanji and Latin letters.
const FAMILIES: &[[&str; 2]] = &[
    ["見本", "mihon"],
    ["仮名", "kamei"],
    ["架空", "kaku"],
    ["例文", "reibun"],
    ["試作", "shisaku"],
    ["写本", "shahon"],
    ["下書", "shitagaki"],
    ["空欄", "kuran"],
    ["雛形", "hinagata"],
    ["標本", "hyohon"],
    ["図案", "zuan"],
    ["草案", "soan"],
    ["余白", "yohaku"],
    ["目次", "mokuji"],
    ["索引", "sakuin"],
    ["脚注", "kyakuchu"],
    ["挿絵", "sashie"],
    ["奥付", "okuzuke"],
    ["活字", "katsuji"],
    ["校正", "kosei"],
];

const GIVEN: &[[&str; 2]] = &[
    ["花子", "hanako"],
    ["太郎", "taro"],
    ["葵", "aoi"],
    ["蓮", "ren"],
    ["陽菜", "hina"],
    ["湊", "minato"],
    ["結衣", "yui"],
    ["樹", "itsuki"],
    ["さくら", "sakura"],
    ["悠真", "yuma"],
    ["美咲", "misaki"],
    ["健太", "kenta"],
    ["千尋", "chihiro"],
    ["直樹", "naoki"],
    ["由美子", "yumiko"],
    ["和夫", "kazuo"],
    ["真央", "mao"],
    ["大輔", "daisuke"],
    ["恵", "megumi"],
    ["誠", "makoto"],
    ["遥", "haruka"],
    ["翔太", "shota"],
    ["文", "aya"],
    ["修", "osamu"],
];

const PREFECTURES: &[&str] = &["架空県", "仮想県", "例示県", "見本県", "想定県"];
const CITIES: &[&str] = &[
    "見本市",
    "試作市",
    "下書市",
    "余白市",
    "栞町",
    "目次町",
    "索引市",
    "脚注町",
];
const NUMBERS: &[&str] = &["一", "二", "三", "四", "五", "六", "七"];

const OPINIONS: &[(i64, &str)] = &[
    (5, "最後まで目が離せませんでした。"),
    (5, "音がとてもいい。ぜひ静かな部屋で。"),
    (5, "Watched it twice in one week."),
    (4, "ゆっくり流れる時間が心地よかったです。"),
    (4, "母と一緒に観ました。ふたりとも満足です。"),
    (4, "Beautiful, if a little long."),
    (4, "続編を待っています。"),
    (3, "悪くないけれど、少し長い。"),
    (3, "Nice pictures, not much of a story."),
    (3, "期待が大きすぎたかもしれません。"),
    (2, "途中で眠ってしまいました。"),
    (2, "Not for me."),
    (1, "字幕が小さくて読めませんでした。"),
];

/// Products by kind, with their prices.
struct Wares {
    streams: Vec<(String, i64)>,
    downloads: Vec<(String, i64)>,
    plans: Vec<(String, i64)>,
    discs: Vec<(String, i64)>,
}

impl Wares {
    fn of(all: Vec<(String, String, i64)>) -> Self {
        let of = |kind: &str| {
            let found = all.iter().filter(|(_, it, _)| it == kind);
            found
                .map(|(id, _, price_yen)| (id.clone(), *price_yen))
                .collect()
        };
        Self {
            streams: of("stream"),
            downloads: of("download"),
            plans: of("monthly"),
            discs: of("disc"),
        }
    }
}

/// Whether it may be done; and the wares there are.
fn check(store: &Store, what: &Seeding) -> Result<Wares, NotSeeded> {
    if what.members > MEMBERS_MAX || what.delivery > what.members {
        return Err(NotSeeded::TooMany);
    }
    store
        .desk
        .database
        .read(|sql| {
            let text = "SELECT COUNT(*) FROM members WHERE mail NOT LIKE '%@example.test' AND mail NOT LIKE '%.example.test'";
            let mut found = sql.rows(text, &[])?;
            let real = found.pop().ok_or(StoreFault::OurRow("no count"))?.int()?;
            if real > 0 && !what.beside_members {
                return Ok(Err(NotSeeded::RealMembers(real)));
            }
            let first = id_of(what, 0, &["member"]);
            let text = "SELECT id FROM members WHERE id = $1";
            if !sql.rows(text, &[Value::from(&first)])?.is_empty() {
                return Ok(Err(NotSeeded::SeedIsThere));
            }
            let text = "SELECT id, kind, price_yen FROM products LIMIT 10000";
            let mut wares = Vec::new();
            for mut row in sql.rows(text, &[])? {
                wares.push((row.text()?, row.text()?, row.int()?));
            }
            // By us: engines have orders of their own.
            wares.sort();
            Ok(Ok(Wares::of(wares)))
        })
        .map_err(NotSeeded::Store)?
}

fn id_of(what: &Seeding, nth: u32, of: &[&str]) -> String {
    let (seed, nth) = (what.seed.to_string(), nth.to_string());
    let mut parts = vec!["seed", &*seed, &*nth];
    parts.extend(of);
    derived_id(&parts)
}

/// Rows that wait to be written, table by table, in an order in which each finds what it refers to.
#[derive(Default)]
struct Batch {
    members: Vec<Value>,
    deliveries: Vec<Value>,
    orders: Vec<Value>,
    lines: Vec<Value>,
    memberships: Vec<Value>,
    payments: Vec<Value>,
    points: Vec<Value>,
    spent: Vec<Value>,
    viewings: Vec<Value>,
    reviews: Vec<Value>,
}

impl Batch {
    fn write(&mut self, sql: &mut dyn Sql) -> Result<(), StoreFault> {
        for (table, columns, values) in [
            (
                "members",
                "id, mail, nickname, password, status, joined_ms",
                &mut self.members,
            ),
            (
                "deliveries",
                "member, name, postcode, address, phone",
                &mut self.deliveries,
            ),
            ("orders", "id, member, placed_ms", &mut self.orders),
            (
                "order_lines",
                "order_id, line, product, price_yen, points_yen, state",
                &mut self.lines,
            ),
            (
                "memberships",
                "id, member, product, state, price_yen, mandate, since_ms, anchor_ms, months, paid_until_ms, \
                 next_ms, tries",
                &mut self.memberships,
            ),
            (
                "payments",
                "id, member, amount_yen, state, reference, page, lang, mandate, whole_at_once, captured_yen, \
                 refunded_yen, planned_ms, authorised_ms",
                &mut self.payments,
            ),
            (
                "points",
                "id, member, amount, reason, at_ms, usable_from_ms, expires_ms",
                &mut self.points,
            ),
            (
                "points",
                "id, member, of_grant, amount, reason, at_ms, usable_from_ms, expires_ms",
                &mut self.spent,
            ),
            ("viewings", "member, product, last_ms", &mut self.viewings),
            (
                "reviews",
                "member, product, stars, text, written_ms",
                &mut self.reviews,
            ),
        ] {
            insert(sql, table, columns, values)?;
            values.clear();
        }
        Ok(())
    }
}

/// Many rows by one statement, and those that are left over one by one: two texts for each table.
fn insert(
    sql: &mut dyn Sql,
    table: &str,
    columns: &str,
    values: &[Value],
) -> Result<(), StoreFault> {
    let width = columns.split(',').count();
    let text = |rows: usize| {
        let rows = (0..rows).map(|row| {
            let places = (1..=width).map(|column| format!("${}", row * width + column));
            format!("({})", places.collect::<Vec<_>>().join(", "))
        });
        let rows = rows.collect::<Vec<_>>().join(", ");
        format!("INSERT INTO {table} ({columns}) VALUES {rows}")
    };
    let whole = values.chunks_exact(width * ROWS);
    let (many, one) = (text(ROWS), text(1));
    for row in whole.remainder().chunks_exact(width) {
        sql.run(&one, row)?;
    }
    for rows in whole {
        sql.run(&many, rows)?;
    }
    Ok(())
}

impl Seeded {
    fn add(&mut self, more: &Self) {
        self.members += more.members;
        self.deliveries += more.deliveries;
        self.orders += more.orders;
        self.lines += more.lines;
        self.memberships += more.memberships;
        self.viewings += more.viewings;
        self.reviews += more.reviews;
        self.points += more.points;
    }
}

/// Chance, the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most.max(1)
    }

    fn percent(&mut self, of_hundred: u64) -> bool {
        self.below(100) < of_hundred
    }

    pub(crate) fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let nth = self.below(u64::try_from(all.len()).unwrap_or(1));
        all.get(usize::try_from(nth).unwrap_or(0))
    }

    /// An instant between these two.
    fn between(&mut self, from: i64, to: i64) -> i64 {
        let span = u64::try_from(to.saturating_sub(from)).unwrap_or(0);
        from + i64::try_from(self.below(span)).unwrap_or(0)
    }
}

/// One member, and all that is theirs.
fn member(what: &Seeding, wares: &Wares, password: &str, nth: u32, batch: &mut Batch) -> Seeded {
    let digest = blake3::hash(format!("shikiri-site seed {} {nth}", what.seed).as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    let mut dice = Dice::new(u64::from_le_bytes(first));
    let dice = &mut dice;

    let id = id_of(what, nth, &["member"]);
    let family = dice.of(FAMILIES).copied().unwrap_or_default();
    let given = dice.of(GIVEN).copied().unwrap_or_default();
    // More came lately than long ago.
    let ago = dice.below(DAYS).min(dice.below(DAYS));
    let joined = THEN - i64::try_from(ago).unwrap_or(0) * DAY_MS - dice.between(0, DAY_MS);
    let status = match dice.below(100) {
        0..=1 => "withdrawn",
        2..=6 => "monthly",
        _ => "regular",
    };
    let nickname = match dice.below(4) {
        0 => given[0].to_owned(),
        1 => format!("{}{}", given[1], dice.below(100)),
        2 => format!("{}さん", given[0]),
        _ => format!("{}_{}", given[1], family[1]),
    };
    let mail = format!(
        "{}.{}{nth}@seed{}.example.test",
        family[1], given[1], what.seed
    );
    let own = || Value::from(&id);
    batch.members.extend([
        own(),
        Value::from(&mail),
        Value::from(&nickname),
        password.into(),
        status.into(),
        joined.into(),
    ]);
    let mut made = Seeded {
        members: 1,
        ..Seeded::default()
    };

    // As many as are wanted, spread over all.
    let until = |nth: u32| u64::from(nth) * u64::from(what.delivery) / u64::from(what.members);
    let has_delivery = until(nth + 1) > until(nth);
    if has_delivery {
        let (prefecture, city) = (dice.of(PREFECTURES), dice.of(CITIES));
        let address = format!(
            "{}{}{}丁目{}-{}",
            prefecture.copied().unwrap_or_default(),
            city.copied().unwrap_or_default(),
            dice.of(NUMBERS).copied().unwrap_or_default(),
            dice.below(30) + 1,
            dice.below(20) + 1,
        );
        batch.deliveries.extend([
            own(),
            Value::Text(format!("{} {}", family[0], given[0])),
            Value::Text(format!("000-{:04}", dice.below(10_000))),
            Value::Text(address),
            Value::Text(format!(
                "000-{:04}-{:04}",
                dice.below(10_000),
                dice.below(10_000)
            )),
        ]);
        made.deliveries = 1;
    }

    let mut purse = grant(what, nth, dice, joined, batch, &mut made);
    if status == "monthly"
        && let Some((plan, price_yen)) = wares.plans.first()
    {
        let placed = dice.between(joined, THEN);
        let order = Order {
            id: id_of(what, nth, &["plan"]),
            placed,
            lines: vec![(plan, *price_yen, "bought")],
        };
        order.add(own(), &mut None, batch, &mut made);
        // Paid for ten years: nobody agreed to be charged.
        let ends = placed + 3650 * DAY_MS;
        batch.memberships.extend([
            Value::from(&order.id),
            own(),
            Value::from(plan),
            "active".into(),
            (*price_yen).into(),
            "".into(),
            placed.into(),
            placed.into(),
            120.into(),
            ends.into(),
            ends.into(),
            0.into(),
        ]);
        made.memberships = 1;
    }
    let orders = match dice.below(10) {
        0..=5 => 0,
        6..=8 => 1,
        _ => 2,
    };
    let mut had = BTreeSet::new();
    for no in 0..orders.max(u64::from(has_delivery)) {
        let placed = dice.between(joined, THEN);
        let mut lines = Vec::new();
        for _ in 0..=dice.below(2) {
            let is_disc = has_delivery && (no == 0 || dice.percent(30));
            let kind = match is_disc {
                true => &wares.discs,
                false if dice.percent(70) => &wares.streams,
                false => &wares.downloads,
            };
            let Some((product, price_yen)) = dice.of(kind) else {
                continue;
            };
            if !had.insert(product) {
                continue;
            }
            let state = match (is_disc, dice.below(100)) {
                (_, 0..=1) => "cancelled",
                (true, 2..=9) => "shipping",
                (true, _) => "delivered",
                (false, _) => "bought",
            };
            lines.push((product, *price_yen, state));
        }
        let order = Order {
            id: id_of(what, nth, &["order", &no.to_string()]),
            placed,
            lines,
        };
        order.add(own(), &mut purse, batch, &mut made);
    }

    let mut seen = BTreeSet::new();
    for _ in 0..dice.below(5) {
        let Some((product, _)) = dice.of(&wares.streams) else {
            break;
        };
        if !seen.insert(product) {
            continue;
        }
        let last = dice.between(joined, THEN);
        batch
            .viewings
            .extend([own(), Value::from(product), last.into()]);
        made.viewings += 1;
        if dice.percent(7)
            && let Some((stars, text)) = dice.of(OPINIONS)
        {
            let written = dice.between(last, THEN);
            batch.reviews.extend([
                own(),
                Value::from(product),
                (*stars).into(),
                (*text).into(),
                written.into(),
            ]);
            made.reviews += 1;
        }
    }
    made
}

/// Points that were granted, and what is left of them.
struct Purse {
    grant: String,
    left: i64,
    from: Millis,
}

fn grant(
    what: &Seeding,
    nth: u32,
    dice: &mut Dice,
    joined: i64,
    batch: &mut Batch,
    made: &mut Seeded,
) -> Option<Purse> {
    if !dice.percent(40) {
        return None;
    }
    let grant = id_of(what, nth, &["grant"]);
    let amount = dice.between(1, 11) * 50;
    batch.points.extend([
        Value::from(&grant),
        Value::from(&id_of(what, nth, &["member"])),
        amount.into(),
        "welcome".into(),
        joined.into(),
        joined.into(),
        (THEN + 400 * DAY_MS).into(),
    ]);
    made.points += 1;
    Some(Purse {
        grant,
        left: amount,
        from: Millis(joined),
    })
}

struct Order<'a> {
    id: String,
    placed: i64,
    /// Product, price, state.
    lines: Vec<(&'a String, i64, &'static str)>,
}

impl Order<'_> {
    /// Adds it, its first line paid for with what points there are.
    fn add(&self, member: Value, purse: &mut Option<Purse>, batch: &mut Batch, made: &mut Seeded) {
        if self.lines.is_empty() {
            return;
        }
        let id = || Value::from(&self.id);
        batch
            .orders
            .extend([id(), member.clone(), self.placed.into()]);
        made.orders += 1;
        let (mut paid_yen, mut refunded_yen) = (0, 0);
        for (line, (product, price_yen, state)) in (1_i64..).zip(&self.lines) {
            let spent = match purse {
                Some(purse) if *state != "cancelled" && purse.from.0 <= self.placed => {
                    let spent = purse.left.min(*price_yen);
                    purse.left -= spent;
                    (spent > 0).then(|| (spent, purse.grant.clone()))
                }
                _ => None,
            };
            let points_yen = spent.as_ref().map_or(0, |(amount, _)| *amount);
            if let Some((amount, grant)) = spent {
                let entry = derived_id(&["spent", &self.id, &line.to_string(), &grant]);
                batch.spent.extend([
                    Value::from(&entry),
                    member.clone(),
                    Value::Text(grant),
                    (-amount).into(),
                    "order".into(),
                    self.placed.into(),
                    self.placed.into(),
                    self.placed.into(),
                ]);
                made.points += 1;
            }
            paid_yen += price_yen - points_yen;
            if *state == "cancelled" {
                refunded_yen += price_yen - points_yen;
            }
            batch.lines.extend([
                id(),
                line.into(),
                Value::from(*product),
                (*price_yen).into(),
                points_yen.into(),
                (*state).into(),
            ]);
            made.lines += 1;
        }
        if paid_yen > 0 {
            batch.payments.extend([
                id(),
                member,
                paid_yen.into(),
                "captured".into(),
                "".into(),
                "".into(),
                "ja".into(),
                "".into(),
                1.into(),
                paid_yen.into(),
                refunded_yen.into(),
                self.placed.into(),
                self.placed.into(),
            ]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DEMO_PASSWORD, NewMember};

    const SMALL: Seeding = Seeding {
        members: 1200,
        delivery: 31,
        seed: 7,
        can_log_in: false,
        beside_members: false,
    };

    /// Every table that is filled, row by row.
    fn dump(store: &Store) -> Vec<String> {
        let texts = [
            "SELECT id || mail || nickname || password || status || CAST(joined_ms AS TEXT) FROM members",
            "SELECT member || name || postcode || address || phone FROM deliveries",
            "SELECT id || member || CAST(placed_ms AS TEXT) FROM orders",
            "SELECT order_id || CAST(line AS TEXT) || product || CAST(price_yen AS TEXT) || CAST(points_yen AS TEXT) || state FROM order_lines",
            "SELECT id || member || CAST(paid_until_ms AS TEXT) FROM memberships",
            "SELECT id || CAST(amount_yen AS TEXT) || CAST(refunded_yen AS TEXT) FROM payments",
            "SELECT id || COALESCE(of_grant, '') || CAST(amount AS TEXT) FROM points",
            "SELECT member || product || CAST(last_ms AS TEXT) FROM viewings",
            "SELECT member || product || CAST(stars AS TEXT) || text FROM reviews",
        ];
        let mut all = Vec::new();
        for (nth, text) in texts.iter().enumerate() {
            let rows = store.desk.database.read(|sql| sql.rows(text, &[])).unwrap();
            assert!(!rows.is_empty(), "{text}");
            all.extend(
                rows.into_iter()
                    .map(|mut row| format!("{nth} {}", row.text().unwrap())),
            );
        }
        all.sort();
        all
    }

    fn int(store: &Store, text: &str) -> i64 {
        let found = store
            .desk
            .database
            .read(|sql| sql.rows(text, &[])?.remove(0).int());
        found.unwrap()
    }

    #[test]
    fn a_seed_is_a_store() {
        let (a, b, c) = (
            crate::fresh::store(),
            crate::fresh::store(),
            crate::fresh::store(),
        );
        let dry = seed_dry(&a, &SMALL).unwrap();
        assert_eq!(seed(&a, &SMALL, drop).unwrap(), dry);
        assert_eq!(seed(&b, &SMALL, drop).unwrap(), dry);
        let other = Seeding { seed: 8, ..SMALL };
        assert_ne!(seed(&c, &other, drop).unwrap(), dry);
        let (a, b) = (dump(&a), dump(&b));
        assert_eq!(a.len(), b.len());
        assert!(a == b, "the same seed, other rows");
        assert!(a != dump(&c));
    }

    #[test]
    fn what_is_counted_is_there_and_adds_up() {
        let store = crate::fresh::store();
        let mut told = Vec::new();
        let seeded = seed(&store, &SMALL, |done| told.push(done)).unwrap();
        assert_eq!(told, [500, 1000, 1200]);
        assert_eq!((seeded.members, seeded.deliveries), (1200, 31));
        for (table, rows) in [
            ("members", seeded.members),
            ("deliveries", seeded.deliveries),
            ("orders", seeded.orders),
            ("order_lines", seeded.lines),
            ("memberships", seeded.memberships),
            ("viewings", seeded.viewings),
            ("reviews", seeded.reviews),
            ("points", seeded.points),
        ] {
            let found = int(&store, &format!("SELECT COUNT(*) FROM {table}"));
            assert_eq!(u64::try_from(found).unwrap(), rows, "{table}");
        }
        for kind in ["stream", "download", "monthly", "disc"] {
            let text = format!(
                "SELECT COUNT(*) FROM order_lines l JOIN products p ON p.id = l.product WHERE p.kind = '{kind}'"
            );
            assert!(int(&store, &text) > 10, "{kind}");
        }
        // No disc without an address; no grant below nothing; every yen of a price is paid.
        let none = [
            "SELECT COUNT(*) FROM order_lines l JOIN orders o ON o.id = l.order_id JOIN products p ON p.id = l.product \
             WHERE p.kind = 'disc' AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.member = o.member)",
            "SELECT COUNT(*) FROM points g WHERE g.of_grant IS NULL AND g.amount < \
             (SELECT COALESCE(-SUM(e.amount), 0) FROM points e WHERE e.of_grant = g.id)",
            "SELECT COUNT(*) FROM orders o WHERE (SELECT SUM(l.price_yen - l.points_yen) FROM order_lines l \
             WHERE l.order_id = o.id) <> COALESCE((SELECT p.captured_yen FROM payments p WHERE p.id = o.id), 0)",
            "SELECT COUNT(*) FROM orders o JOIN members m ON m.id = o.member WHERE o.placed_ms < m.joined_ms",
        ];
        for text in none {
            assert_eq!(int(&store, text), 0, "{text}");
        }
        assert!(int(&store, "SELECT COUNT(*) FROM points WHERE amount < 0") > 10);
    }

    #[test]
    fn real_members_and_the_same_seed_again_are_in_the_way() {
        let store = crate::fresh::store();
        let new = NewMember {
            mail: "somebody@mail.test",
            nickname: "S",
            password: "hash",
        };
        store.desk.register(&new, Millis(THEN)).unwrap().unwrap();
        let few = Seeding {
            members: 3,
            delivery: 1,
            ..SMALL
        };
        for dry in [seed_dry(&store, &few), seed(&store, &few, drop)] {
            assert!(matches!(dry, Err(NotSeeded::RealMembers(1))), "{dry:?}");
        }
        let beside = Seeding {
            beside_members: true,
            ..few
        };
        seed(&store, &beside, drop).unwrap();
        assert!(matches!(
            seed(&store, &beside, drop),
            Err(NotSeeded::SeedIsThere)
        ));
        seed(&store, &Seeding { seed: 8, ..beside }, drop).unwrap();
        assert_eq!(int(&store, "SELECT COUNT(*) FROM members"), 7);
        let many = Seeding { delivery: 4, ..few };
        assert!(matches!(seed(&store, &many, drop), Err(NotSeeded::TooMany)));
    }

    #[test]
    fn nobody_of_a_seed_logs_in_unless_told() {
        let mail = |store: &Store| {
            let text = "SELECT mail FROM members WHERE status <> 'withdrawn' ORDER BY id LIMIT 1";
            let found = store
                .desk
                .database
                .read(|sql| sql.rows(text, &[])?.remove(0).text());
            found.unwrap()
        };
        for can_log_in in [false, true] {
            let store = crate::fresh::store();
            let few = Seeding {
                members: 5,
                delivery: 1,
                can_log_in,
                ..SMALL
            };
            seed(&store, &few, drop).unwrap();
            let (_, hash) = store.desk.credentials(&mail(&store)).unwrap().unwrap();
            assert_eq!(password::is_of(DEMO_PASSWORD, Some(&hash)), can_log_in);
            assert!(!password::is_of(NO_PASSWORD, Some(&hash)));
        }
    }
}
