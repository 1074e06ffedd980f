//! Buying under double clicks, lost answers and crashes; the checker reads the two books and nothing else.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};

use super::*;
use crate::asked::Lang;
use crate::fresh::{self, Fresh};
use crate::pay::trial::{Fault, Trial};
use crate::pay::{Ask, Booked, Booking, Charge, Opened, Opening, Seen, Trouble};
use crate::points::Grant;
use crate::store::{Dice, Store, fill_with_samples};

const NOW: Millis = Millis(1_794_000_000_000);
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const GOOD: &str = "4242424242424242";

const DIED: &str = "the process dies";

/// Dies with the process that called, before or after the request, once it is told to.
struct Mortal {
    inner: Arc<Trial>,
    dies: Mutex<Option<bool>>,
}

impl Mortal {
    fn call<T>(&self, work: impl FnOnce() -> T) -> T {
        let dies = self.dies.lock().unwrap().take();
        // Unwinds as a panic would, and prints nothing: it is meant.
        let die = || resume_unwind(Box::new(DIED));
        if dies == Some(false) {
            die();
        }
        let came = work();
        if dies == Some(true) {
            die();
        }
        came
    }
}

impl Processor for Mortal {
    fn open(&self, opening: &Opening<'_>, now: Millis) -> Result<Opened, Trouble> {
        self.call(|| self.inner.open(opening, now))
    }
    fn look(&self, reference: &str, now: Millis) -> Result<Option<Seen>, Trouble> {
        self.call(|| self.inner.look(reference, now))
    }
    fn charged(&self, charge: &Charge<'_>, now: Millis) -> Result<Option<Seen>, Trouble> {
        self.call(|| self.inner.charged(charge, now))
    }
    fn charge(&self, charge: &Charge<'_>, now: Millis) -> Result<Seen, Trouble> {
        self.call(|| self.inner.charge(charge, now))
    }
    fn capture(&self, ask: &Ask<'_>, now: Millis) -> Result<(), Trouble> {
        self.call(|| self.inner.capture(ask, now))
    }
    fn void(&self, ask: &Ask<'_>, now: Millis) -> Result<(), Trouble> {
        self.call(|| self.inner.void(ask, now))
    }
    fn refund(&self, ask: &Ask<'_>, now: Millis) -> Result<(), Trouble> {
        self.call(|| self.inner.refund(ask, now))
    }
    fn statement(&self, from: Millis) -> Result<Vec<Booked>, Trouble> {
        self.inner.statement(from)
    }
}

/// A store with two members, and a processor of its own.
struct World {
    trade: Option<Trade>,
    processor: Arc<Trial>,
    mortal: Arc<Mortal>,
    members: Vec<MemberId>,
    place: Option<Fresh>,
    now: Millis,
}

impl World {
    fn new() -> Self {
        Self::on(fresh::store(), None)
    }

    /// In a place of its own, so that it can be dropped and opened again.
    fn in_a_place() -> Self {
        let place = Fresh::new();
        Self::on(place.open(), Some(place))
    }

    fn on(store: Store, place: Option<Fresh>) -> Self {
        fill_with_samples(&store).unwrap();
        let member = |mail| store.desk.credentials(mail).unwrap().unwrap().0;
        let members = vec![member("hanako@example.test"), member("taro@example.test")];
        let processor = Arc::new(Trial::in_memory("http://pay.example.test").unwrap());
        let mortal = Arc::new(Mortal {
            inner: Arc::clone(&processor),
            dies: Mutex::default(),
        });
        let trade = Trade::new(
            store.desk.database(),
            Arc::<Mortal>::clone(&mortal),
            "http://shop.example.test/",
        )
        .unwrap();
        let database = trade.database.clone();
        database
            .write(|sql| sql.run("DELETE FROM carts", &[]))
            .unwrap();
        Self {
            trade: Some(trade),
            processor,
            mortal,
            members,
            place,
            now: NOW,
        }
    }

    fn trade(&self) -> &Trade {
        self.trade.as_ref().unwrap()
    }

    /// The process is gone, and another begins.
    fn restart(&mut self) {
        self.trade = None;
        self.trade = Some(self.another());
    }

    /// The same store, opened by another process.
    fn another(&self) -> Trade {
        let store = self.place.as_ref().unwrap().open();
        let processor = Arc::<Mortal>::clone(&self.mortal);
        Trade::new(store.desk.database(), processor, "http://shop.example.test").unwrap()
    }

    /// Where a member pays for this.
    fn page_of(&self, member: &MemberId, id: &str) -> String {
        let payment = self.trade().payment(member, id).unwrap().unwrap();
        payment.page.clone()
    }

    fn place(&self, member: &MemberId, form: &str, points: i64) -> Result<Placed, NotPlaced> {
        let seen = self.trade().cart(member).unwrap().digest();
        let placing = Placing {
            form,
            seen: &seen,
            points,
            lang: Lang::Ja,
        };
        self.trade().place(member, &placing, self.now).unwrap()
    }

    /// Buys these and pays for them; the order's id.
    fn buy(&self, member: &MemberId, form: &str, products: &[&str], points: i64) -> String {
        for product in products {
            assert!(self.trade().put(member, product, self.now).unwrap());
        }
        let placed = self.place(member, form, points).unwrap();
        if placed.by_card {
            self.trade().settle(&placed.id, self.now).unwrap();
            let page = self.page_of(member, &placed.id);
            self.processor
                .pay(reference(&page), GOOD, self.now)
                .unwrap()
                .unwrap();
            self.trade().settle(&placed.id, self.now).unwrap();
        }
        placed.id
    }

    fn state(&self, member: &MemberId, payment: &str) -> PaymentState {
        self.trade()
            .payment(member, payment)
            .unwrap()
            .unwrap()
            .state
    }

    fn int(&self, text: &str) -> i64 {
        self.trade()
            .database
            .read(|sql| sql.rows(text, &[]))
            .unwrap()
            .remove(0)
            .int()
            .unwrap()
    }

    fn texts(&self, text: &str) -> Vec<String> {
        let rows = self
            .trade()
            .database
            .read(|sql| sql.rows(text, &[]))
            .unwrap();
        rows.into_iter()
            .map(|mut row| row.text().unwrap())
            .collect()
    }

    /// Points of all kinds, used up or not, that entries add up to.
    fn points(&self) -> i64 {
        self.int("SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) FROM points")
    }

    /// The two books and the orders say the same.
    fn check(&self, granted: i64, what: &str) {
        assert_eq!(self.trade().reconcile(Millis(0)).unwrap(), vec![], "{what}");
        let statement = self.processor.statement(Millis(0)).unwrap();
        let mut theirs: BTreeMap<String, i64> = BTreeMap::new();
        for booked in &statement {
            let signed = match booked.what {
                Booking::Capture => booked.amount_yen,
                Booking::Refund => -booked.amount_yen,
            };
            *theirs.entry(booked.reference.clone()).or_default() += signed;
        }
        // For each payment: what the processor kept is the card part of what was not cancelled.
        let text = "SELECT p.reference, CAST(COALESCE((SELECT SUM(l.price_yen - l.points_yen) FROM order_lines l \
                    WHERE l.order_id = p.id AND l.state <> 'cancelled'), 0) AS BIGINT), p.state \
                    FROM payments p WHERE p.reference <> ''";
        let rows = self
            .trade()
            .database
            .read(|sql| sql.rows(text, &[]))
            .unwrap();
        let mut owed = BTreeMap::new();
        for mut row in rows {
            let (reference, kept_yen, state) =
                (row.text().unwrap(), row.int().unwrap(), row.text().unwrap());
            if state == "captured" {
                owed.insert(reference, kept_yen);
            } else {
                assert!(
                    !theirs.contains_key(&reference),
                    "{what}: {state}, and money moved"
                );
                assert!(
                    state == "authorised" || kept_yen == 0,
                    "{what}: {state}, and something was had for it"
                );
            }
        }
        assert_eq!(theirs, owed, "{what}");
        let spent = self.int("SELECT CAST(COALESCE(SUM(points_yen), 0) AS BIGINT) FROM order_lines WHERE state <> 'cancelled'");
        assert_eq!(self.points(), granted - spent, "{what}: points");
    }
}

fn reference(page: &str) -> &str {
    page.rsplit('/').next().unwrap()
}

fn form(nth: u64) -> String {
    format!("{nth:020}")
}

#[test]
fn a_form_that_is_sent_twice_is_one_purchase() {
    let world = World::in_a_place();
    let hanako = world.members[0].clone();
    let before = world.points();
    world.trade().put(&hanako, "course-joinery", NOW).unwrap();
    let seen = world.trade().cart(&hanako).unwrap().digest();
    let form = form(1);
    let placing = Placing {
        form: &form,
        seen: &seen,
        points: 100,
        lang: Lang::Ja,
    };
    let another = world.another();
    let placed: Vec<_> = std::thread::scope(|scope| {
        let mut all = Vec::new();
        for process in [world.trade(), &another].repeat(4) {
            let (hanako, placing) = (&hanako, &placing);
            all.push(scope.spawn(move || process.place(hanako, placing, NOW).unwrap()));
        }
        all.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let first = placed[0].clone().unwrap();
    assert!(
        placed.iter().all(|it| it.as_ref() == Ok(&first)),
        "all are told of one"
    );
    assert_eq!(world.int("SELECT COUNT(*) FROM checkouts"), 1);
    assert_eq!(world.points(), before - 100, "points are spent once");

    world.trade().settle(&first.id, NOW).unwrap();
    let page = world.page_of(&hanako, &first.id);
    world
        .processor
        .pay(reference(&page), GOOD, NOW)
        .unwrap()
        .unwrap();
    std::thread::scope(|scope| {
        for process in [world.trade(), &another].repeat(4) {
            let first = &first;
            scope.spawn(move || process.settle(&first.id, NOW).unwrap());
        }
    });
    world
        .trade()
        .settle_all(&|| true, NOW.plus(MINUTE_MS), 100)
        .unwrap();
    assert_eq!(world.state(&hanako, &first.id), PaymentState::Captured);
    assert_eq!(
        world.processor.statement(NOW).unwrap().len(),
        1,
        "captured once"
    );
    std::thread::scope(|scope| {
        for process in [world.trade(), &another].repeat(4) {
            let (hanako, first) = (&hanako, &first);
            scope.spawn(move || process.cancel(hanako, &first.id, 1, NOW).unwrap().unwrap());
        }
    });
    world
        .trade()
        .settle_all(&|| true, NOW.plus(MINUTE_MS), 100)
        .unwrap();
    assert_eq!(
        world.processor.statement(NOW).unwrap().len(),
        2,
        "refunded once"
    );
    assert_eq!(world.points(), before, "points came back once");
    world.check(before, "after double clicks");
}

#[test]
fn what_cannot_be_bought_changes_nothing() {
    let world = World::new();
    let hanako = &world.members[0];
    let usable = 320;
    for (products, points, change, why) in [
        (&[][..], 0, "", NotPlaced::Empty),
        (&["bread-at-four"], 381, "", NotPlaced::Points),
        (&["bread-at-four"], -1, "", NotPlaced::Points),
        (&["course-joinery"], usable + 1, "", NotPlaced::Points),
        (&["plan-monthly"], 0, "", NotPlaced::AlreadyMonthly),
        (
            &["disc-shorts"],
            0,
            "DELETE FROM deliveries",
            NotPlaced::NoAddress,
        ),
    ] {
        let database = &world.trade().database;
        database
            .write(|sql| sql.run("DELETE FROM carts", &[]))
            .unwrap();
        if !change.is_empty() {
            database.write(|sql| sql.run(change, &[])).unwrap();
        }
        for product in products {
            world.trade().put(hanako, product, NOW).unwrap();
        }
        assert_eq!(
            world.place(hanako, &form(1), points),
            Err(why),
            "{products:?} {points}"
        );
        assert_eq!(
            world.trade().cart(hanako).unwrap().lines.len(),
            products.len()
        );
        assert_eq!(world.int("SELECT COUNT(*) FROM checkouts"), 0);
    }
    world.trade().put(hanako, "bread-at-four", NOW).unwrap();
    let placing = Placing {
        form: &form(1),
        seen: "what was shown yesterday",
        points: 0,
        lang: Lang::Ja,
    };
    assert_eq!(
        world.trade().place(hanako, &placing, NOW).unwrap(),
        Err(NotPlaced::Changed)
    );
    let placing = Placing {
        form: "x",
        seen: "",
        points: 0,
        lang: Lang::Ja,
    };
    assert_eq!(
        world.trade().place(hanako, &placing, NOW).unwrap(),
        Err(NotPlaced::BadForm)
    );
}

#[test]
fn a_payment_ends_as_the_processor_has_it() {
    for (what, state, in_cart) in [
        ("paid", PaymentState::Captured, 0),
        ("given up", PaymentState::Refused, 1),
        ("never paid", PaymentState::Refused, 1),
        ("never opened", PaymentState::Refused, 1),
        ("opened on the second try", PaymentState::Captured, 0),
    ] {
        let mut world = World::new();
        let hanako = world.members[0].clone();
        let before = world.points();
        world.trade().put(&hanako, "course-joinery", NOW).unwrap();
        let placed = world.place(&hanako, &form(1), 20).unwrap();
        match what {
            "never opened" => world.processor.will([Some(Fault::NotHeard); 2]),
            "opened on the second try" => world.processor.will([Some(Fault::AnswerLost)]),
            _ => {}
        }
        world.trade().settle(&placed.id, NOW).unwrap();
        world.now = NOW.plus(20_000);
        world.trade().settle_all(&|| true, world.now, 100).unwrap();
        let page = world.page_of(&hanako, &placed.id);
        match what {
            "given up" => drop(
                world
                    .processor
                    .give_up(reference(&page), world.now)
                    .unwrap()
                    .unwrap(),
            ),
            "never paid" | "never opened" => world.now = NOW.plus(2 * HOUR_MS),
            _ => drop(
                world
                    .processor
                    .pay(reference(&page), GOOD, world.now)
                    .unwrap()
                    .unwrap(),
            ),
        }
        for _ in 0..3 {
            world.trade().settle_all(&|| true, world.now, 100).unwrap();
            world.now = world.now.plus(MINUTE_MS);
        }
        assert_eq!(world.state(&hanako, &placed.id), state, "{what}");
        assert_eq!(
            world.trade().cart(&hanako).unwrap().lines.len(),
            in_cart,
            "{what}"
        );
        world.check(before, what);
    }
}

#[test]
fn discs_are_paid_for_as_they_are_sent() {
    let world = World::new();
    let (hanako, taro) = (&world.members[0], &world.members[1]);
    let before = world.points();
    let both = world.buy(hanako, &form(1), &["disc-shorts", "disc-night-trains"], 0);
    assert_eq!(world.state(hanako, &both), PaymentState::Authorised);
    assert_eq!(
        world.processor.statement(NOW).unwrap(),
        vec![],
        "nothing was taken yet"
    );
    assert_eq!(
        world.trade().cancel(taro, &both, 1, NOW).unwrap(),
        Err(NotCancelled::NoSuchLine),
        "another's"
    );
    assert_eq!(
        world.trade().cancel(hanako, &both, 1, NOW).unwrap(),
        Ok(Cancelled::Now)
    );
    assert_eq!(
        world.trade().send(&both, 1, NOW).unwrap(),
        Err(NotShipped::NotReady),
        "it was cancelled"
    );
    assert_eq!(world.trade().send(&both, 2, NOW).unwrap(), Ok(()));
    assert_eq!(
        world.trade().cancel(hanako, &both, 2, NOW).unwrap(),
        Err(NotCancelled::Sent)
    );
    assert!(world.trade().delivered(&both, 2, NOW).unwrap());
    let booked: Vec<_> = world
        .processor
        .statement(NOW)
        .unwrap()
        .iter()
        .map(|it| it.amount_yen)
        .collect();
    assert_eq!(booked, [2900], "for what was sent alone");

    let none = world.buy(hanako, &form(2), &["disc-shorts"], 0);
    assert_eq!(
        world.trade().cancel(hanako, &none, 1, NOW).unwrap(),
        Ok(Cancelled::Now)
    );
    assert_eq!(world.state(hanako, &none), PaymentState::Voided);
    let mixed = world.buy(hanako, &form(3), &["disc-shorts", "paper-rivers"], 100);
    assert_eq!(world.state(hanako, &mixed), PaymentState::Captured);
    assert_eq!(
        world.trade().cancel(hanako, &mixed, 1, NOW).unwrap(),
        Ok(Cancelled::Now)
    );
    world.check(before, "after discs");
}

#[test]
fn what_was_watched_or_is_old_is_kept() {
    let mut world = World::new();
    let hanako = world.members[0].clone();
    let order = world.buy(&hanako, &form(1), &["paper-rivers", "night-trains"], 0);
    let text = "INSERT INTO viewings (member, product, last_ms) VALUES ($1, 'paper-rivers', $2)";
    let with = [hanako.text().into(), NOW.plus(1).0.into()];
    world
        .trade()
        .database
        .write(|sql| sql.run(text, &with))
        .unwrap();
    let lines = world.texts(
        "SELECT product FROM order_lines l JOIN checkouts c ON c.id = l.order_id ORDER BY line",
    );
    assert_eq!(lines, ["night-trains", "paper-rivers"]);
    assert_eq!(
        world.trade().cancel(&hanako, &order, 2, NOW).unwrap(),
        Err(NotCancelled::Watched)
    );
    world.now = NOW.plus(7 * 24 * HOUR_MS);
    assert_eq!(
        world.trade().cancel(&hanako, &order, 1, world.now).unwrap(),
        Err(NotCancelled::TooLate)
    );
    assert!(world.trade().may_cancel(&hanako, &order, 1, NOW).unwrap());
    assert_eq!(
        world
            .trade()
            .cancel(&hanako, "samplehanako1", 1, NOW)
            .unwrap(),
        Err(NotCancelled::NotOurs),
        "it was paid for elsewhere"
    );
}

#[test]
fn a_difference_between_the_books_is_found() {
    let world = World::new();
    let hanako = &world.members[0];
    let order = world.buy(hanako, &form(1), &["paper-rivers"], 0);
    world.check(world.points(), "as it should be: nothing differs");
    let reference = world
        .texts(&format!(
            "SELECT reference FROM payments WHERE id = '{order}'"
        ))
        .remove(0);
    let foreign = Ask {
        reference: &reference,
        key: "somebody else's",
        amount_yen: 100,
    };
    world.processor.refund(&foreign, NOW).unwrap();
    let found = world.trade().reconcile(Millis(0)).unwrap();
    assert!(
        matches!(&found[..], [Difference::OnlyTheirs(it)] if it.amount_yen == 100),
        "{found:?}"
    );
    let change = "UPDATE moves SET amount_yen = 1 WHERE kind = 'capture'";
    world
        .trade()
        .database
        .write(|sql| sql.run(change, &[]))
        .unwrap();
    assert_eq!(world.trade().reconcile(Millis(0)).unwrap().len(), 2);
}

/// Taro, who joined, and pays with this number.
fn joined(number: &str) -> (World, MemberId, String) {
    let world = World::in_a_place();
    let taro = world.members[1].clone();
    world.trade().put(&taro, "plan-monthly", NOW).unwrap();
    let placed = world.place(&taro, &form(1), 0).unwrap();
    world.trade().settle(&placed.id, NOW).unwrap();
    let page = world.page_of(&taro, &placed.id);
    world
        .processor
        .pay(reference(&page), number, NOW)
        .unwrap()
        .unwrap();
    world.trade().settle(&placed.id, NOW).unwrap();
    (world, taro, placed.id)
}

fn membership(world: &World, member: &MemberId) -> Membership {
    (*world.trade().membership(member).unwrap().unwrap()).clone()
}

const DAY_MS: i64 = 24 * HOUR_MS;

#[test]
fn a_month_is_charged_once() {
    let (world, taro, _) = joined(GOOD);
    let before = world.points();
    assert_eq!(
        world.texts("SELECT status FROM members WHERE nickname = 'Taro'"),
        ["monthly"]
    );
    for month in 1..=3 {
        let until = membership(&world, &taro).paid_until;
        for early in [until.plus(-DAY_MS), until.plus(-1)] {
            world.trade().run_jobs(|| true, early).unwrap();
        }
        assert_eq!(
            world.processor.statement(NOW).unwrap().len(),
            month,
            "not before its time"
        );
        // Two jobs at once, the first charge's answer lost, and one job more after a while.
        world.processor.will([Some(Fault::AnswerLost)]);
        let another = world.another();
        std::thread::scope(|scope| {
            for process in [world.trade(), &another].repeat(2) {
                scope.spawn(move || process.run_jobs(|| true, until).unwrap());
            }
        });
        world
            .trade()
            .run_jobs(|| true, until.plus(MINUTE_MS))
            .unwrap();
        world
            .trade()
            .run_jobs(|| true, until.plus(DAY_MS + 1))
            .unwrap();
        assert_eq!(
            world.processor.statement(NOW).unwrap().len(),
            month + 1,
            "once"
        );
        assert!(membership(&world, &taro).paid_until > until.plus(27 * DAY_MS));
        world.check(before, "after a month");
    }
    assert_eq!(
        world
            .trade()
            .membership(&world.members[0])
            .unwrap()
            .unwrap()
            .price_yen,
        980,
        "hanako's is untouched"
    );
}

#[test]
fn who_joins_in_two_windows_joins_once() {
    let world = World::in_a_place();
    let taro = world.members[1].clone();
    let join = |nth| {
        world.trade().put(&taro, "plan-monthly", NOW).unwrap();
        world.place(&taro, &form(nth), 0)
    };
    let first = join(1).unwrap();
    assert_eq!(
        join(2),
        Err(NotPlaced::Joining),
        "the first waits to be paid"
    );
    assert_eq!(join(1), Ok(first.clone()), "sent again it is the same");
    world.trade().settle(&first.id, NOW).unwrap();
    let page = world.page_of(&taro, &first.id);
    world.processor.give_up(reference(&page), NOW).unwrap();
    world.trade().settle(&first.id, NOW).unwrap();
    let second = join(3).unwrap();
    world.trade().settle(&second.id, NOW).unwrap();
    let page = world.page_of(&taro, &second.id);
    let paid = world.processor.pay(reference(&page), GOOD, NOW).unwrap();
    assert!(paid.is_ok());
    world.trade().settle(&second.id, NOW).unwrap();
    assert_eq!(join(4), Err(NotPlaced::AlreadyMonthly));
    let until = membership(&world, &taro).paid_until;
    world.trade().run_jobs(|| true, until).unwrap();
    assert_eq!(
        world.processor.statement(NOW).unwrap().len(),
        2,
        "one month is charged"
    );
}

#[test]
fn nobody_is_charged_while_the_site_is_closed() {
    let (world, taro, _) = joined(GOOD);
    let until = membership(&world, &taro).paid_until;
    for day in 0..10 {
        world
            .trade()
            .run_jobs(|| false, until.plus(day * DAY_MS))
            .unwrap();
    }
    assert_eq!(
        world.processor.statement(NOW).unwrap().len(),
        1,
        "closed: nothing but the joining"
    );
    let reopened = until.plus(10 * DAY_MS);
    world.trade().run_jobs(|| true, reopened).unwrap();
    assert_eq!(
        world.processor.statement(NOW).unwrap().len(),
        2,
        "the days without are not paid for"
    );
    let now_until = membership(&world, &taro).paid_until;
    assert!(now_until > reopened.plus(27 * DAY_MS) && now_until < reopened.plus(32 * DAY_MS));
}

#[test]
fn a_site_that_closes_while_jobs_run_stops_them_there() {
    let world = World::new();
    let hanako = world.members[0].clone();
    let booked = || world.processor.statement(Millis(0)).unwrap().len();
    // Paid, and not looked at yet.
    for (nth, product) in [(1, "bread-at-four"), (2, "course-joinery")] {
        world.trade().put(&hanako, product, NOW).unwrap();
        let placed = world.place(&hanako, &form(nth), 0).unwrap();
        world.trade().settle(&placed.id, NOW).unwrap();
        let page = world.page_of(&hanako, &placed.id);
        let paid = world.processor.pay(reference(&page), GOOD, NOW).unwrap();
        assert!(paid.is_ok());
    }
    world.trade().run_jobs(|| booked() < 1, NOW).unwrap();
    assert_eq!(booked(), 1, "it closed after the first");
    world.trade().run_jobs(|| booked() < 2, NOW).unwrap();
    assert_eq!(booked(), 2, "open again");
    // Asked for, and not heard.
    for (nth, product) in [(3, "disc-shorts"), (4, "disc-night-trains")] {
        let order = world.buy(&hanako, &form(nth), &[product], 0);
        world.processor.will([Some(Fault::NotHeard)]);
        assert!(world.trade().send(&order, 1, NOW).unwrap().is_err());
    }
    let later = NOW.plus(MINUTE_MS);
    world.trade().run_jobs(|| booked() < 3, later).unwrap();
    assert_eq!(booked(), 3, "it closed after the first");
    world.trade().run_jobs(|| true, later).unwrap();
    assert_eq!(booked(), 4);
}

#[test]
fn who_cannot_be_charged_is_asked_again_and_then_let_go() {
    let (world, taro, _) = joined("4000000000000341");
    let mut now = membership(&world, &taro).paid_until;
    for (state, after_ms) in [
        (MembershipState::Due, DAY_MS),
        (MembershipState::Due, 3 * DAY_MS),
        (MembershipState::Due, 5 * DAY_MS),
        (MembershipState::Ended, DAY_MS),
    ] {
        world.trade().run_jobs(|| true, now).unwrap();
        assert_eq!(membership(&world, &taro).state, state);
        world
            .trade()
            .run_jobs(|| true, now.plus(after_ms - 1))
            .unwrap();
        now = now.plus(after_ms);
    }
    assert_eq!(world.processor.statement(NOW).unwrap().len(), 1);
    assert_eq!(
        world.texts("SELECT status FROM members WHERE nickname = 'Taro'"),
        ["regular"]
    );
    let mails = world.int("SELECT COUNT(*) FROM outbox WHERE subject LIKE '月額プラン%'");
    assert_eq!(mails, 4, "told each time, once");
}

#[test]
fn who_leaves_has_the_month_that_is_paid() {
    let (mut world, taro, order) = joined(GOOD);
    let until = membership(&world, &taro).paid_until;
    assert!(world.trade().leave(&taro).unwrap() && !world.trade().leave(&taro).unwrap());
    assert!(world.trade().stay(&taro).unwrap() && world.trade().leave(&taro).unwrap());
    assert_eq!(
        world.trade().cancel(&taro, &order, 1, NOW).unwrap(),
        Err(NotCancelled::Monthly)
    );
    world.trade().run_jobs(|| true, until.plus(-1)).unwrap();
    assert_eq!(membership(&world, &taro).state, MembershipState::Leaving);
    world.trade().run_jobs(|| true, until).unwrap();
    assert_eq!(membership(&world, &taro).state, MembershipState::Ended);
    assert_eq!(world.processor.statement(NOW).unwrap().len(), 1);
    world.now = until;
    world.buy(&taro, &form(2), &["plan-monthly"], 0);
    assert_eq!(
        membership(&world, &taro).state,
        MembershipState::Active,
        "and may come again"
    );
}

/// What a random schedule knows of itself.
struct Run {
    forms: u64,
    granted: i64,
    crashes: u32,
    /// What was rightly not done.
    refused: u32,
}

fn one_operation(world: &mut World, dice: &mut Dice, run: &mut Run) {
    const PRODUCTS: &[&str] = &[
        "bread-at-four",
        "paper-rivers",
        "course-joinery",
        "disc-shorts",
        "disc-night-trains",
    ];
    let member = dice.of(&world.members).unwrap().clone();
    let now = world.now;
    match dice.below(12) {
        0 | 1 => {
            let came = world
                .trade()
                .put(&member, dice.of(PRODUCTS).unwrap(), now)
                .unwrap();
            run.refused += u32::from(!came);
        }
        2 | 3 => {
            run.forms += 1;
            let points = i64::try_from(dice.below(300)).unwrap();
            let form = form(run.forms);
            if let Ok(placed) = world.place(&member, &form, points) {
                assert_eq!(
                    world.place(&member, &form, points).as_ref(),
                    Ok(&placed),
                    "sent again"
                );
                world.trade().settle(&placed.id, now).unwrap();
            }
        }
        4 | 5 => {
            let pages = world.texts("SELECT page FROM payments WHERE page <> ''");
            if let Some(page) = dice.of(&pages) {
                match dice.below(4) {
                    0 => drop(world.processor.give_up(reference(page), now).unwrap()),
                    _ => drop(world.processor.pay(reference(page), GOOD, now).unwrap()),
                }
            }
        }
        6 | 7 => {
            let lines = world.texts("SELECT order_id || ' ' || CAST(line AS TEXT) FROM order_lines ORDER BY order_id, line");
            if let Some(one) = dice.of(&lines) {
                let (order, line) = one.split_once(' ').unwrap();
                let line = line.parse().unwrap();
                for member in world.members.clone() {
                    let came = world.trade().cancel(&member, order, line, now).unwrap();
                    run.refused += u32::from(came.is_err());
                }
            }
        }
        8 => {
            let lines = world.texts("SELECT order_id || ' ' || CAST(line AS TEXT) FROM shipments ORDER BY order_id, line");
            if let Some(one) = dice.of(&lines) {
                let (order, line) = one.split_once(' ').unwrap();
                let came = world
                    .trade()
                    .send(order, line.parse().unwrap(), now)
                    .unwrap();
                run.refused += u32::from(came.is_err());
                world
                    .trade()
                    .delivered(order, line.parse().unwrap(), now)
                    .unwrap();
            }
        }
        9 => {
            let id = form(u64::MAX - run.forms) + &run.granted.to_string();
            let grant = Grant {
                id: &id,
                amount: 250,
                reason: "welcome",
                usable_from: now,
                expires: now.plus(900 * HOUR_MS),
            };
            if world
                .trade()
                .database
                .write(|sql| grant.write(sql, &member, now))
                .unwrap()
            {
                run.granted += 250;
            }
        }
        10 => {
            let by_ms = *dice.of(&[1_000, 40_000, HOUR_MS, 26 * HOUR_MS]).unwrap();
            world.now = now.plus(by_ms);
        }
        _ => {
            world.trade().settle_all(&|| true, now, 50).unwrap();
        }
    }
}

#[test]
fn books_agree_after_a_thousand_operations_with_crashes_and_lost_answers() {
    let mut seen = [0_i64; 3];
    for seed in [1, 2026] {
        let mut world = World::in_a_place();
        let mut dice = Dice::new(seed);
        let mut run = Run {
            forms: 0,
            granted: world.points(),
            crashes: 0,
            refused: 0,
        };
        for nth in 0..1_000 {
            match dice.below(12) {
                0 => *world.mortal.dies.lock().unwrap() = Some(dice.below(2) == 0),
                1 => world.processor.will([Some(Fault::AnswerLost)]),
                2 => world.processor.will([Some(Fault::NotHeard)]),
                3 => world.processor.will([Some(Fault::Late(20_000))]),
                _ => {}
            }
            let done = catch_unwind(AssertUnwindSafe(|| {
                one_operation(&mut world, &mut dice, &mut run);
            }));
            if let Err(panic) = done {
                let words = panic.downcast_ref::<&str>().copied().unwrap_or_default();
                assert!(words == DIED, "seed {seed}, operation {nth}: {words}");
                run.crashes += 1;
                world.restart();
            }
            *world.mortal.dies.lock().unwrap() = None;
        }
        // Whatever was due is looked up; nobody pays any more.
        for _ in 0..6 {
            world.processor.will([]);
            world.now = world.now.plus(2 * HOUR_MS);
            world
                .trade()
                .settle_all(&|| true, world.now, 1_000)
                .unwrap();
        }
        world.check(run.granted, &format!("seed {seed}"));
        assert_eq!(
            world.int("SELECT COUNT(*) FROM moves WHERE state IN ('planned', 'called')"),
            0,
            "seed {seed}"
        );
        assert_eq!(
            world.int("SELECT COUNT(*) FROM checkouts WHERE state = 'open'"),
            0,
            "seed {seed}"
        );
        assert!(
            run.crashes >= 5 && run.refused > 10,
            "seed {seed}: {} crashes, {} refused",
            run.crashes,
            run.refused
        );
        seen[0] +=
            world.int("SELECT COUNT(*) FROM moves WHERE kind = 'capture' AND state = 'done'");
        seen[1] += world.int("SELECT COUNT(*) FROM moves WHERE kind = 'refund' AND state = 'done'");
        seen[2] += world.int("SELECT COUNT(*) FROM moves WHERE tries > 1 AND state = 'done'");
        assert!(
            world
                .texts("SELECT state FROM moves WHERE kind = 'refund' AND state = 'refused'")
                .is_empty(),
            "seed {seed}"
        );
    }
    assert!(
        seen.iter().all(|it| *it > 10),
        "the schedules did enough: {seen:?}"
    );
}
