//! Which promise is polled next when there are more of them than poll connections.
//!
//! - Promises that someone waits for go first.
//! - Clients take turns: the client that was served longest ago is next. Within a client, it is the promise that has been
//!   due for longest.
//! - A training client's requests finish in the order in which they were made, so only its two oldest promises are polled:
//!   the one that runs and the one behind it. Who waits for a later one waits for those before it, too.
//! - A promise that nobody can ask for any more is not polled.
//! - A poll under way gives its seat up to a promise that someone waits for: at once when nobody waits for its own, else after
//!   a while. It leaves the seat to others for as long, since their turn may be much shorter than its own.
//!
//! Every change and every pick takes a time logarithmic in the number of promises.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// How many of a training client's promises are polled at once.
const FRONT: usize = 2;

/// A promise. Of one client, the smaller id is the older promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id(pub(crate) u64);

/// A client, whose promises share its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GroupId(pub(crate) u64);

/// How long a promise that someone waits for keeps its seat when another one waits for a seat. Servers hold a poll for half a
/// minute and more; without this, two of them would keep two connections from everyone else for that long.
const SLICE: Duration = Duration::from_secs(2);

/// How long after its beginning a poll gives its seat up to a promise that someone waits for, and how long it then stays
/// away: without that, long polls would be back after each short one and hold the seat for most of the time.
pub(crate) fn seat_time(waited: bool) -> Duration {
    if waited { SLICE } else { Duration::ZERO }
}

/// The classes of priority.
#[derive(Clone, Copy, Debug)]
enum Class {
    /// Those that someone waits for.
    Waited,
    /// The rest.
    Idle,
}

/// The first goes first.
const CLASSES: [Class; 2] = [Class::Waited, Class::Idle];

/// Everyone who wants to be polled.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    promises: HashMap<Id, Promise>,
    groups: HashMap<GroupId, Group>,
    /// Candidates that are not known to be due, by when they are.
    sleeping: BTreeSet<(Instant, Id)>,
    /// The groups that have candidates that are due, by class, ordered by when they were last served.
    turns: [BTreeSet<(u64, GroupId)>; CLASSES.len()],
    /// The last turn that was given out.
    last_turn: u64,
}

#[derive(Debug)]
struct Promise {
    group: GroupId,
    due: Instant,
    waited: bool,
    abandoned: bool,
    polling: bool,
    place: Place,
}

/// Where a promise is listed.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Nowhere: it is no candidate.
    Aside,
    /// In [`Seats::sleeping`].
    Sleeping,
    /// In the [`Group::ready`] of this class.
    Ready(Class),
}

#[derive(Debug, Default)]
struct Group {
    /// All its promises, abandoned ones too.
    size: usize,
    /// When it was last served.
    turn: u64,
    /// Whether its promises finish in order.
    ordered: bool,
    /// Of an ordered group, the promises in that order, without abandoned ones.
    line: BTreeSet<Id>,
    /// Of an ordered group, those of the line that someone waits for.
    waited: BTreeSet<Id>,
    /// The candidates that are due, by class, ordered by since when they are.
    ready: [BTreeSet<(Instant, Id)>; CLASSES.len()],
}

impl Seats {
    /// Adds a promise, to be polled from `due` on. `ordered` says whether the promises of the group finish in order; it is
    /// the same for all of them.
    pub(crate) fn insert(&mut self, id: Id, group: GroupId, ordered: bool, due: Instant) {
        self.remove(id);
        let last_turn = &mut self.last_turn;
        let members = self.groups.entry(group).or_insert_with(|| {
            // A newcomer goes to the end, or else clients that come and go would keep the others waiting.
            *last_turn += 1;
            Group { ordered, turn: *last_turn, ..Group::default() }
        });
        members.size += 1;
        let promise = Promise { group, due, waited: false, abandoned: false, polling: false, place: Place::Aside };
        self.promises.insert(id, promise);
        self.update(id, |_, group| {
            if group.ordered {
                group.line.insert(id);
            }
        });
    }

    /// Forgets a promise.
    pub(crate) fn remove(&mut self, id: Id) {
        self.abandon(id);
        let Some(promise) = self.promises.remove(&id) else { return };
        if let Some(group) = self.groups.get_mut(&promise.group) {
            group.size -= 1;
            if group.size == 0 {
                self.groups.remove(&promise.group);
            }
        }
    }

    /// Says whether someone waits for the promise now.
    pub(crate) fn set_waited(&mut self, id: Id, waited: bool) {
        self.update(id, |promise, group| {
            promise.waited = waited;
            if waited && group.line.contains(&id) {
                group.waited.insert(id);
            } else {
                group.waited.remove(&id);
            }
        });
    }

    /// Says that nobody can ask for the promise any more. It stays, for a poll under way, but is not polled again.
    pub(crate) fn abandon(&mut self, id: Id) {
        self.update(id, |promise, group| {
            promise.abandoned = true;
            group.line.remove(&id);
            group.waited.remove(&id);
        });
    }

    /// Says when the promise may be polled next, which also ends a poll under way.
    pub(crate) fn set_due(&mut self, id: Id, due: Instant) {
        self.update(id, |promise, _| {
            promise.due = due;
            promise.polling = false;
        });
    }

    /// Since when the promise waits to be polled, or will; `None` while it is.
    pub(crate) fn due(&self, id: Id) -> Option<Instant> {
        self.promises.get(&id).filter(|promise| !promise.polling).map(|promise| promise.due)
    }

    /// Says that a poll begins, until [`set_due`](Seats::set_due) or [`remove`](Seats::remove). The client has had its turn.
    pub(crate) fn mark_polling(&mut self, id: Id) {
        self.update(id, |promise, _| promise.polling = true);
        let Some(promise) = self.promises.get(&id) else { return };
        let Some(group) = self.groups.get_mut(&promise.group) else { return };
        let before = (group.turn, promise.group);
        self.last_turn += 1;
        group.turn = self.last_turn;
        for class in CLASSES {
            if self.turns[class as usize].remove(&before) {
                self.turns[class as usize].insert((group.turn, promise.group));
            }
        }
    }

    /// The promise to poll now, if any is due. It stays the same until it is marked or something else changes.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Id> {
        while let Some(&(due, id)) = self.sleeping.first() {
            if due > now {
                break;
            }
            self.sleeping.pop_first();
            self.ready(id);
        }
        CLASSES.into_iter().find_map(|class| {
            let (_, group) = self.turns[class as usize].first()?;
            Some(self.groups.get(group)?.ready[class as usize].first()?.1)
        })
    }

    /// When the next promise becomes due that was not at the last [`next`](Seats::next). Those that were need no alarm: they
    /// wait for a seat.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.sleeping.first().map(|(due, _)| *due)
    }

    /// Whether someone waits for the promise: of a client whose promises finish in order, also for one behind it.
    pub(crate) fn is_waited(&self, id: Id) -> bool {
        let Some(promise) = self.promises.get(&id) else { return false };
        match self.groups.get(&promise.group) {
            Some(group) if group.ordered => group.waited.last() >= Some(&id),
            _ => promise.waited,
        }
    }

    /// How many promises there are, abandoned ones too.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.promises.len()
    }

    /// Changes a promise, and lists it and those that depend on it where they then belong.
    fn update(&mut self, id: Id, change: impl FnOnce(&mut Promise, &mut Group)) {
        let Some(group_id) = self.promises.get(&id).map(|promise| promise.group) else { return };
        for concerned in self.concerned(group_id, id).into_iter().flatten() {
            self.withdraw(concerned);
        }
        if let (Some(promise), Some(group)) = (self.promises.get_mut(&id), self.groups.get_mut(&group_id)) {
            change(promise, group);
        }
        for concerned in self.concerned(group_id, id).into_iter().flatten() {
            self.enlist(concerned);
        }
    }

    /// The promises whose chance changes with that of `id`: those at the front of the line, or itself where there is none.
    fn concerned(&self, group: GroupId, id: Id) -> [Option<Id>; FRONT] {
        match self.groups.get(&group) {
            Some(group) if group.ordered => {
                let mut line = group.line.iter().copied();
                std::array::from_fn(|_| line.next())
            }
            _ => std::array::from_fn(|index| (index == 0).then_some(id)),
        }
    }

    /// Lists a promise as a candidate, if it is one. Whether it is due already shows at the next pick.
    fn enlist(&mut self, id: Id) {
        let Some(promise) = self.promises.get_mut(&id) else { return };
        if !promise.abandoned && !promise.polling {
            self.sleeping.insert((promise.due, id));
            promise.place = Place::Sleeping;
        }
    }

    /// Takes a promise off the list that it is on.
    fn withdraw(&mut self, id: Id) {
        let Some(promise) = self.promises.get_mut(&id) else { return };
        let listed = (promise.due, id);
        match std::mem::replace(&mut promise.place, Place::Aside) {
            Place::Aside => {}
            Place::Sleeping => {
                self.sleeping.remove(&listed);
            }
            Place::Ready(class) => {
                let Some(group) = self.groups.get_mut(&promise.group) else { return };
                group.ready[class as usize].remove(&listed);
                if group.ready[class as usize].is_empty() {
                    self.turns[class as usize].remove(&(group.turn, promise.group));
                }
            }
        }
    }

    /// Lists a candidate among those that are due.
    fn ready(&mut self, id: Id) {
        let class = if self.is_waited(id) { Class::Waited } else { Class::Idle };
        let Some(promise) = self.promises.get_mut(&id) else { return };
        let Some(group) = self.groups.get_mut(&promise.group) else { return };
        group.ready[class as usize].insert((promise.due, id));
        self.turns[class as usize].insert((group.turn, promise.group));
        promise.place = Place::Ready(class);
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::start;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Picks and marks until nothing is due.
    fn picks(seats: &mut Seats, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| seats.next(now).inspect(|id| seats.mark_polling(*id)).map(|id| id.0)).collect()
    }

    #[test]
    fn clients_take_turns_and_their_promises_go_by_when_they_are_due() {
        let t0 = start();
        let mut seats = Seats::default();
        for (id, group) in [(1, 7), (2, 7), (3, 7), (4, 8), (5, 8), (6, 9)] {
            seats.insert(Id(id), GroupId(group), false, t0);
        }
        seats.set_due(Id(1), t0 + SECOND);
        assert_eq!(picks(&mut seats, t0), [2, 4, 6, 3, 5]);
        assert_eq!((seats.due(Id(1)), seats.due(Id(2)), seats.due(Id(99))), (Some(t0 + SECOND), None, None));
        assert_eq!(seats.wake_at(), Some(t0 + SECOND));
        assert_eq!(picks(&mut seats, t0 + SECOND), [1]);
        assert_eq!((seats.wake_at(), seats.len()), (None, 6));
    }

    #[test]
    fn of_a_training_client_the_two_oldest_are_polled() {
        let t0 = start();
        let mut seats = Seats::default();
        for id in [5, 3, 1, 4, 2] {
            seats.insert(Id(id), GroupId(1), true, t0);
        }
        assert_eq!(picks(&mut seats, t0), [1, 2]);
        seats.remove(Id(2));
        assert_eq!(picks(&mut seats, t0), [3]);
        seats.abandon(Id(1));
        assert_eq!(picks(&mut seats, t0), [4], "an abandoned promise holds no place in the line");
        seats.set_due(Id(1), t0);
        assert!(picks(&mut seats, t0).is_empty());
    }

    #[test]
    fn what_is_waited_for_goes_first_and_in_order_so_does_what_is_before_it() {
        let t0 = start();
        let mut seats = Seats::default();
        for id in 1..=4 {
            seats.insert(Id(id), GroupId(1), false, t0);
            seats.insert(Id(10 + id), GroupId(2), true, t0);
        }
        seats.set_waited(Id(3), true);
        seats.set_waited(Id(14), true);
        assert_eq!(picks(&mut seats, t0), [3, 11, 12, 1, 2, 4]);
        for id in [11, 12, 3, 1] {
            seats.set_due(Id(id), t0);
        }
        seats.set_waited(Id(14), false);
        seats.set_waited(Id(11), true);
        seats.set_waited(Id(3), false);
        assert_eq!(picks(&mut seats, t0), [11, 1, 12, 3], "the one after it does not matter to who waits");
    }

    #[test]
    fn an_unknown_promise_changes_nothing() {
        let t0 = start();
        let mut seats = Seats::default();
        seats.set_due(Id(1), t0);
        seats.mark_polling(Id(1));
        seats.set_waited(Id(1), true);
        seats.abandon(Id(1));
        seats.remove(Id(1));
        assert_eq!((seats.next(t0), seats.wake_at(), seats.len()), (None, None, 0));
    }

    #[test]
    fn a_promise_takes_little_memory() {
        // A hash table is filled to 7/16 at worst, the nodes of a B-tree to 5/11; a promise is on one list and in one line.
        let entry = size_of::<(Id, Promise)>() * 16 / 7 + (size_of::<(Instant, Id)>() + size_of::<Id>() * 2) * 11 / 5;
        assert!(entry < 220, "{entry} bytes");
    }

    #[test]
    fn twenty_thousand_promises_are_picked_without_looking_at_all_of_them() {
        let t0 = start();
        let mut seats = Seats::default();
        for id in 0..20_000 {
            seats.insert(Id(id), GroupId(id % 50), id % 50 < 10, t0);
        }
        // With a scan per pick this would be 400 million steps.
        let picked = picks(&mut seats, t0);
        assert_eq!(picked.len(), 10 * FRONT + 40 * 400);
        assert_eq!(picked[..50], (0..50).collect::<Vec<_>>());
    }
}
