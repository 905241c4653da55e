//! A whole outbox under a simulated clock: one origin is down for 72 hours, another flaps, a third is well.
//!
//! The outbox here is the least that keeps the contract: due deliveries ask [`Origins`], attempts are judged,
//! and an origin that comes back releases those which never reached it.

use rap_http::{
    Attempt, Origins, Traffic, Verdict,
    delivery::{Permit, Start},
    judge,
};
use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
    time::Duration,
};

const HOUR: u64 = 3_600_000;
/// How long an attempt takes.
const TOOK: u64 = 40;

struct Delivery {
    origin: &'static str,
    created: u64,
    /// Attempts by the schedule.
    counted: u32,
    first: Option<u64>,
    delivered: Option<u64>,
    lost: bool,
    /// Waits for its own next attempt after a refused connection: released when the origin is back.
    waits_for_origin: bool,
    /// The time of the event that counts; others are out of date.
    due: u64,
    early: bool,
}

enum Event {
    Due,
    Done(Permit),
}

#[derive(Default)]
struct World {
    origins: Origins,
    deliveries: Vec<Delivery>,
    events: BinaryHeap<Reverse<(u64, usize, usize)>>,
    details: HashMap<usize, (usize, u64, Event)>,
    asking: HashMap<&'static str, BTreeSet<usize>>,
    flying: HashMap<&'static str, usize>,
    attempts: Vec<(u64, &'static str)>,
    most_at_once_while_down: usize,
}

fn is_up(origin: &str, now: u64) -> bool {
    match origin {
        "down" => now >= 72 * HOUR,
        "flapping" => (now / 10_000).is_multiple_of(3),
        _ => true,
    }
}

impl World {
    fn at(&mut self, time: u64, delivery: usize, event: Event) {
        let number = self.details.len();
        if matches!(event, Event::Due) {
            self.deliveries[delivery].due = time;
        }
        self.details.insert(number, (delivery, time, event));
        self.events.push(Reverse((time, number, delivery)));
    }

    fn ask_again(&mut self, origin: &'static str, now: u64) {
        for id in self.asking.remove(origin).unwrap_or_default() {
            self.at(now, id, Event::Due);
        }
        if self.origins.is_troubled(origin) {
            return;
        }
        for id in 0..self.deliveries.len() {
            let delivery = &mut self.deliveries[id];
            if delivery.origin == origin
                && std::mem::take(&mut delivery.waits_for_origin)
                && delivery.due > now
            {
                delivery.early = true;
                self.at(now, id, Event::Due);
            }
        }
    }

    fn run(&mut self) {
        while let Some(Reverse((now, number, id))) = self.events.pop() {
            let (_, time, event) = self.details.remove(&number).unwrap();
            self.details.insert(number, (id, time, Event::Due));
            let origin = self.deliveries[id].origin;
            match event {
                Event::Due if self.deliveries[id].due != time || self.deliveries[id].delivered.is_some() => {}
                Event::Due => self.start(id, now),
                Event::Done(permit) => {
                    *self.flying.get_mut(origin).unwrap() -= 1;
                    let attempt = if is_up(origin, now) { Attempt::status(200) } else { Attempt::Refused };
                    self.judge(id, now, &attempt);
                    if self.origins.finished(origin, now, permit, &attempt) {
                        self.ask_again(origin, now);
                    }
                }
            }
        }
    }

    fn start(&mut self, id: usize, now: u64) {
        let origin = self.deliveries[id].origin;
        match self.origins.may_start(origin, now) {
            Start::Now(permit) => {
                let flying = self.flying.entry(origin).or_default();
                *flying += 1;
                if origin == "down" && now > HOUR && now < 72 * HOUR {
                    self.most_at_once_while_down = self.most_at_once_while_down.max(*flying);
                }
                self.attempts.push((now, origin));
                let delivery = &mut self.deliveries[id];
                assert!(!delivery.lost && delivery.delivered.is_none());
                delivery.first.get_or_insert(now);
                delivery.due = u64::MAX;
                delivery.waits_for_origin = false;
                self.asking.entry(origin).or_default().remove(&id);
                self.at(now + TOOK, id, Event::Done(permit));
            }
            Start::WaitUntil(until) | Start::WaitForProbe { at_latest: until } => {
                self.at(until, id, Event::Due);
                self.asking.entry(origin).or_default().insert(id);
            }
        }
    }

    fn judge(&mut self, id: usize, now: u64, attempt: &Attempt) {
        let delivery = &mut self.deliveries[id];
        if !std::mem::take(&mut delivery.early) {
            delivery.counted += 1;
        }
        let since = Duration::from_millis(now - delivery.first.unwrap());
        match judge(Traffic::Callback, delivery.counted, since, attempt, id as u64) {
            Verdict::Delivered => delivery.delivered = Some(now),
            Verdict::GiveUp(_) => delivery.lost = true,
            Verdict::Retry { after, .. } => {
                delivery.waits_for_origin = *attempt == Attempt::Refused;
                self.at(now + after.as_millis() as u64, id, Event::Due);
            }
        }
    }
}

#[test]
fn nothing_is_lost_in_72_hours_and_nobody_is_stampeded() {
    let mut world = World::default();
    let mut create = |origin, created| {
        world.deliveries.push(Delivery {
            origin,
            created,
            counted: 0,
            first: None,
            delivered: None,
            lost: false,
            waits_for_origin: false,
            due: created,
            early: false,
        });
    };
    for n in 0..300 {
        create("down", n * 72 * HOUR / 300);
        create("well", n * 72 * HOUR / 300);
    }
    for n in 0..300 {
        create("flapping", n * 1000);
    }
    // The first message after the outage finds the origin well and releases the rest.
    create("down", 72 * HOUR + 1000);
    for id in 0..world.deliveries.len() {
        world.at(world.deliveries[id].created, id, Event::Due);
    }
    world.run();

    for (id, delivery) in world.deliveries.iter().enumerate() {
        let Delivery { origin, created, counted, .. } = delivery;
        assert!(!delivery.lost && delivery.delivered.is_some(), "{id} {origin} {created} {counted}");
    }
    assert_eq!(world.most_at_once_while_down, 1, "one probe at a time");
    let tried = |origin| world.attempts.iter().filter(|(_, o)| *o == origin).count();
    assert!(tried("down") < 72 * 60 + 1000, "no more than a probe a minute: {}", tried("down"));
    assert_eq!(tried("well"), 300, "the trouble of one origin is not another's");
    for delivery in &world.deliveries {
        let delivered = delivery.delivered.unwrap();
        match delivery.origin {
            "well" => assert_eq!(delivered, delivery.created + TOOK),
            "down" => {
                let late = delivered - 72 * HOUR;
                assert!(
                    late <= 62_000,
                    "delivered {late} ms after the outage: released by the first success"
                );
            }
            // Up a third of the time, in pieces of ten seconds: coming and going uses up nobody's schedule.
            _ => assert!(delivery.counted < 18),
        }
    }
}
