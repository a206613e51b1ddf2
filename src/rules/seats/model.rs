//! The same policy as a plain list that is looked through each time, to test the real one against.

use std::time::{Duration, Instant};

use quickcheck::quickcheck;

use super::super::testing::start;
use super::{FRONT, GroupId, Id, Seats};

/// The unit of time in the property.
const TICK: Duration = Duration::from_millis(125);

/// Everyone, in no order.
#[derive(Default)]
struct Model {
    promises: Vec<ModelPromise>,
    turns: Vec<(GroupId, u64)>,
    last_turn: u64,
}

#[derive(Clone)]
struct ModelPromise {
    id: Id,
    group: GroupId,
    ordered: bool,
    due: Instant,
    waited: bool,
    abandoned: bool,
    polling: bool,
}

impl Model {
    fn turn(&self, group: GroupId) -> Option<u64> {
        self.turns.iter().find(|(id, _)| *id == group).map(|(_, turn)| *turn)
    }

    fn serve(&mut self, group: GroupId) {
        self.last_turn += 1;
        self.turns.retain(|(id, _)| *id != group);
        self.turns.push((group, self.last_turn));
    }

    fn insert(&mut self, id: Id, group: GroupId, ordered: bool, due: Instant) {
        self.remove(id);
        if self.turn(group).is_none() {
            self.serve(group);
        }
        self.promises.push(ModelPromise { id, group, ordered, due, waited: false, abandoned: false, polling: false });
    }

    fn remove(&mut self, id: Id) {
        self.promises.retain(|promise| promise.id != id);
        let promises = &self.promises;
        self.turns.retain(|(group, _)| promises.iter().any(|promise| promise.group == *group));
    }

    fn change(&mut self, id: Id, change: impl FnOnce(&mut ModelPromise)) {
        if let Some(promise) = self.promises.iter_mut().find(|promise| promise.id == id) {
            change(promise);
        }
    }

    fn mark_polling(&mut self, id: Id) {
        self.change(id, |promise| promise.polling = true);
        if let Some(group) = self.promises.iter().find(|promise| promise.id == id).map(|promise| promise.group) {
            self.serve(group);
        }
    }

    fn candidates(&self) -> impl Iterator<Item = &ModelPromise> {
        self.promises.iter().filter(|promise| {
            let before = self.line(promise).filter(|other| other.id < promise.id).count();
            !promise.abandoned && !promise.polling && (!promise.ordered || before < FRONT)
        })
    }

    fn line(&self, of: &ModelPromise) -> impl Iterator<Item = &ModelPromise> {
        self.promises.iter().filter(move |promise| promise.group == of.group && !promise.abandoned)
    }

    fn next(&self, now: Instant) -> Option<Id> {
        let first = self.candidates().filter(|promise| promise.due <= now).min_by_key(|promise| {
            let later = self.line(promise).any(|other| promise.ordered && other.waited && other.id > promise.id);
            (!(promise.waited || later), self.turn(promise.group), promise.due, promise.id)
        });
        first.map(|promise| promise.id)
    }
}

quickcheck! {
    fn picks_are_those_of_a_look_at_everyone(steps: Vec<(u8, u8, u8)>) -> bool {
        let (t0, mut seats, mut model) = (start(), Seats::default(), Model::default());
        let mut now = t0;
        steps.iter().cycle().take(steps.len() * 4).all(|(what, which, when)| {
            let id = Id(u64::from(which % 12));
            // The parity of the group says whether it is ordered.
            let group = GroupId(u64::from(which % 3));
            let due = t0 + u32::from(*when) * TICK;
            match what % 9 {
                0 | 1 => {
                    seats.insert(id, group, group.0 % 2 == 0, due);
                    model.insert(id, group, group.0 % 2 == 0, due);
                }
                2 => {
                    seats.remove(id);
                    model.remove(id);
                }
                3 | 7 => {
                    seats.set_waited(id, when % 4 > 0);
                    model.change(id, |promise| promise.waited = when % 4 > 0);
                }
                4 if when % 4 == 0 => {
                    seats.abandon(id);
                    model.change(id, |promise| promise.abandoned = true);
                }
                5 => {
                    seats.set_due(id, due);
                    model.change(id, |promise| (promise.due, promise.polling) = (due, false));
                }
                6 => now += u32::from(when % 16) * TICK,
                _ => {
                    if let Some(id) = seats.next(now) {
                        seats.mark_polling(id);
                        model.mark_polling(id);
                    }
                }
            }
            let same = seats.len() == model.promises.len() && seats.next(now) == model.next(now);
            let earliest = model.candidates().map(|promise| promise.due).filter(|due| *due > now).min();
            same && seats.wake_at() == earliest
        })
    }
}
