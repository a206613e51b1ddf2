//! Which promise is polled next when there are more promises than poll connections.
//!
//! - Promises that someone waits for go first.
//! - Clients take turns: next is the client that was served longest ago, and of its promises the one that is overdue longest.
//! - The requests of a training client finish in the order in which they were made, so only its two oldest promises are
//!   polled: the one that runs and the one behind it. Waiting for a later promise counts as waiting for those before it, too.
//! - An abandoned promise is not polled.
//! - A running poll gives its connection up to a promise that someone waits for: at once when nobody waits for its own
//!   promise, otherwise after a time slice. It then stays away for one time slice, so that short polls get a turn, too.
//!
//! Every change and every pick takes time logarithmic in the number of promises.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// How many promises of a training client are polled at once.
const FRONT: usize = 2;

/// Identifies a promise. Of one client, the smaller ticket is the older promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// Identifies a client, whose promises share its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientId(pub(crate) u64);

/// How long a promise that someone waits for keeps its connection when another one waits for a connection. Servers hold a
/// poll for half a minute and more; without this limit, two of them would keep two connections from all others for that long.
const TIME_SLICE: Duration = Duration::from_secs(2);

/// How long after its start a poll gives its connection up to a promise that someone waits for, and how long it then stays
/// away: otherwise long polls would come back after each short one and hold the connection for most of the time.
pub(crate) fn time_slice(waited: bool) -> Duration {
    if waited { TIME_SLICE } else { Duration::ZERO }
}

#[derive(Clone, Copy, Debug)]
enum Priority {
    /// Someone waits for the promise.
    Waited,
    /// Nobody does.
    Idle,
}

/// In order of precedence.
const PRIORITIES: [Priority; 2] = [Priority::Waited, Priority::Idle];

/// All promises that can be polled.
#[derive(Debug, Default)]
pub(crate) struct PollQueue {
    promises: HashMap<Ticket, Entry>,
    clients: HashMap<ClientId, Client>,
    /// Candidates that are not known to be due, ordered by when they are.
    sleeping: BTreeSet<(Instant, Ticket)>,
    /// The clients with candidates that are due, by priority, ordered by when they were last served.
    turns: [BTreeSet<(u64, ClientId)>; PRIORITIES.len()],
    /// The last turn that was given out.
    last_turn: u64,
}

#[derive(Debug)]
struct Entry {
    client: ClientId,
    due: Instant,
    waited: bool,
    abandoned: bool,
    polling: bool,
    list: List,
}

/// The list that an entry is on.
#[derive(Clone, Copy, Debug)]
enum List {
    /// None: it is no candidate.
    None,
    /// [`PollQueue::sleeping`].
    Sleeping,
    /// The [`Client::due`] of this priority.
    Due(Priority),
}

#[derive(Debug, Default)]
struct Client {
    /// The number of its promises, abandoned ones included.
    size: usize,
    /// When it was last served.
    turn: u64,
    /// Whether its promises finish in order.
    ordered: bool,
    /// If ordered, its promises in that order, without abandoned ones.
    order: BTreeSet<Ticket>,
    /// If ordered, those of them that someone waits for.
    waited: BTreeSet<Ticket>,
    /// The candidates that are due, by priority, ordered by when they became due.
    due: [BTreeSet<(Instant, Ticket)>; PRIORITIES.len()],
}

impl PollQueue {
    /// Adds a promise, to be polled from `due` on. `ordered` is whether the promises of the client finish in order; it is
    /// the same for all of them.
    pub(crate) fn insert(&mut self, ticket: Ticket, client: ClientId, ordered: bool, due: Instant) {
        self.remove(ticket);
        let last_turn = &mut self.last_turn;
        let its_client = self.clients.entry(client).or_insert_with(|| {
            // A new client goes to the end; otherwise short-lived clients would keep the others waiting.
            *last_turn += 1;
            Client { ordered, turn: *last_turn, ..Client::default() }
        });
        its_client.size += 1;
        let entry = Entry { client, due, waited: false, abandoned: false, polling: false, list: List::None };
        self.promises.insert(ticket, entry);
        self.update(ticket, |_, client| {
            if client.ordered {
                client.order.insert(ticket);
            }
        });
    }

    /// Removes a promise.
    pub(crate) fn remove(&mut self, ticket: Ticket) {
        self.abandon(ticket);
        let Some(entry) = self.promises.remove(&ticket) else { return };
        if let Some(client) = self.clients.get_mut(&entry.client) {
            client.size -= 1;
            if client.size == 0 {
                self.clients.remove(&entry.client);
            }
        }
    }

    /// Sets whether someone waits for the promise.
    pub(crate) fn set_waited(&mut self, ticket: Ticket, waited: bool) {
        self.update(ticket, |entry, client| {
            entry.waited = waited;
            if waited && client.order.contains(&ticket) {
                client.waited.insert(ticket);
            } else {
                client.waited.remove(&ticket);
            }
        });
    }

    /// Marks a promise whose result nobody will take. It stays while a poll is running, but is not polled again.
    pub(crate) fn abandon(&mut self, ticket: Ticket) {
        self.update(ticket, |entry, client| {
            entry.abandoned = true;
            client.order.remove(&ticket);
            client.waited.remove(&ticket);
        });
    }

    /// Sets the earliest instant of the next poll, and marks a running one as ended.
    pub(crate) fn set_due(&mut self, ticket: Ticket, due: Instant) {
        self.update(ticket, |entry, _| {
            entry.due = due;
            entry.polling = false;
        });
    }

    /// When the promise becomes or became due; `None` while it is polled.
    pub(crate) fn due(&self, ticket: Ticket) -> Option<Instant> {
        self.promises.get(&ticket).filter(|entry| !entry.polling).map(|entry| entry.due)
    }

    /// Marks a promise as polled, until [`set_due`](PollQueue::set_due) or [`remove`](PollQueue::remove). Its client has then
    /// been served.
    pub(crate) fn mark_polling(&mut self, ticket: Ticket) {
        self.update(ticket, |entry, _| entry.polling = true);
        let Some(entry) = self.promises.get(&ticket) else { return };
        let Some(client) = self.clients.get_mut(&entry.client) else { return };
        let before = (client.turn, entry.client);
        self.last_turn += 1;
        client.turn = self.last_turn;
        for priority in PRIORITIES {
            if self.turns[priority as usize].remove(&before) {
                self.turns[priority as usize].insert((client.turn, entry.client));
            }
        }
    }

    /// The promise to poll now, if any is due. It stays the same until it is marked or something else changes.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Ticket> {
        while let Some(&(due, ticket)) = self.sleeping.first() {
            if due > now {
                break;
            }
            self.sleeping.pop_first();
            self.list_due(ticket);
        }
        PRIORITIES.into_iter().find_map(|priority| {
            let (_, client) = self.turns[priority as usize].first()?;
            Some(self.clients.get(client)?.due[priority as usize].first()?.1)
        })
    }

    /// When the next promise becomes due, leaving out those that were due at the last [`next`](PollQueue::next): they need no
    /// alarm, but a connection.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.sleeping.first().map(|(due, _)| *due)
    }

    /// Whether someone waits for the promise or, if its client is ordered, for one behind it.
    pub(crate) fn is_waited(&self, ticket: Ticket) -> bool {
        let Some(entry) = self.promises.get(&ticket) else { return false };
        match self.clients.get(&entry.client) {
            Some(client) if client.ordered => client.waited.last() >= Some(&ticket),
            _ => entry.waited,
        }
    }

    /// The number of promises, abandoned ones included.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.promises.len()
    }

    /// Changes a promise, and moves it and those that depend on it to the right lists.
    fn update(&mut self, ticket: Ticket, change: impl FnOnce(&mut Entry, &mut Client)) {
        let Some(client_id) = self.promises.get(&ticket).map(|entry| entry.client) else { return };
        for affected in self.affected(client_id, ticket).into_iter().flatten() {
            self.unlist(affected);
        }
        if let (Some(entry), Some(client)) = (self.promises.get_mut(&ticket), self.clients.get_mut(&client_id)) {
            change(entry, client);
        }
        for affected in self.affected(client_id, ticket).into_iter().flatten() {
            self.list_sleeping(affected);
        }
    }

    /// The promises whose turn depends on `ticket`: of an ordered client those at its front, else `ticket` alone.
    fn affected(&self, client: ClientId, ticket: Ticket) -> [Option<Ticket>; FRONT] {
        match self.clients.get(&client) {
            Some(client) if client.ordered => {
                let mut order = client.order.iter().copied();
                std::array::from_fn(|_| order.next())
            }
            _ => std::array::from_fn(|index| (index == 0).then_some(ticket)),
        }
    }

    /// Lists a promise as a candidate, if it is one. The next pick shows whether it is due already.
    fn list_sleeping(&mut self, ticket: Ticket) {
        let Some(entry) = self.promises.get_mut(&ticket) else { return };
        if !entry.abandoned && !entry.polling {
            self.sleeping.insert((entry.due, ticket));
            entry.list = List::Sleeping;
        }
    }

    /// Takes a promise off its list.
    fn unlist(&mut self, ticket: Ticket) {
        let Some(entry) = self.promises.get_mut(&ticket) else { return };
        let key = (entry.due, ticket);
        match std::mem::replace(&mut entry.list, List::None) {
            List::None => {}
            List::Sleeping => {
                self.sleeping.remove(&key);
            }
            List::Due(priority) => {
                let Some(client) = self.clients.get_mut(&entry.client) else { return };
                client.due[priority as usize].remove(&key);
                if client.due[priority as usize].is_empty() {
                    self.turns[priority as usize].remove(&(client.turn, entry.client));
                }
            }
        }
    }

    /// Lists a candidate among those that are due.
    fn list_due(&mut self, ticket: Ticket) {
        let priority = if self.is_waited(ticket) { Priority::Waited } else { Priority::Idle };
        let Some(entry) = self.promises.get_mut(&ticket) else { return };
        let Some(client) = self.clients.get_mut(&entry.client) else { return };
        client.due[priority as usize].insert((entry.due, ticket));
        self.turns[priority as usize].insert((client.turn, entry.client));
        entry.list = List::Due(priority);
    }
}

#[cfg(test)]
mod reference;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::testing::start;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nobody_waiting_means_no_time_slice() {
        assert_eq!([true, false].map(time_slice), [2 * SECOND, Duration::ZERO]);
    }

    /// Picks and marks until nothing is due.
    fn picks(queue: &mut PollQueue, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| queue.next(now).inspect(|ticket| queue.mark_polling(*ticket)).map(|ticket| ticket.0))
            .collect()
    }

    #[test]
    fn clients_take_turns_by_how_long_overdue() {
        let t0 = start();
        let mut queue = PollQueue::default();
        for (ticket, client) in [(1, 7), (2, 7), (3, 7), (4, 8), (5, 8), (6, 9)] {
            queue.insert(Ticket(ticket), ClientId(client), false, t0);
        }
        queue.set_due(Ticket(1), t0 + SECOND);
        assert_eq!(picks(&mut queue, t0), [2, 4, 6, 3, 5]);
        assert_eq!(
            (queue.due(Ticket(1)), queue.due(Ticket(2)), queue.due(Ticket(99))),
            (Some(t0 + SECOND), None, None)
        );
        assert_eq!(queue.wake_at(), Some(t0 + SECOND));
        assert_eq!(picks(&mut queue, t0 + SECOND), [1]);
        assert_eq!((queue.wake_at(), queue.len()), (None, 6));
    }

    #[test]
    fn the_two_oldest_of_a_training_client() {
        let t0 = start();
        let mut queue = PollQueue::default();
        for ticket in [5, 3, 1, 4, 2] {
            queue.insert(Ticket(ticket), ClientId(1), true, t0);
        }
        assert_eq!(picks(&mut queue, t0), [1, 2]);
        queue.remove(Ticket(2));
        assert_eq!(picks(&mut queue, t0), [3]);
        queue.abandon(Ticket(1));
        assert_eq!(picks(&mut queue, t0), [4], "an abandoned promise does not hold up the others");
        queue.set_due(Ticket(1), t0);
        assert!(picks(&mut queue, t0).is_empty());
    }

    #[test]
    fn waited_promises_and_those_before_go_first() {
        let t0 = start();
        let mut queue = PollQueue::default();
        for ticket in 1..=4 {
            queue.insert(Ticket(ticket), ClientId(1), false, t0);
            queue.insert(Ticket(10 + ticket), ClientId(2), true, t0);
        }
        queue.set_waited(Ticket(3), true);
        queue.set_waited(Ticket(14), true);
        assert_eq!(picks(&mut queue, t0), [3, 11, 12, 1, 2, 4]);
        for ticket in [11, 12, 3, 1] {
            queue.set_due(Ticket(ticket), t0);
        }
        queue.set_waited(Ticket(14), false);
        queue.set_waited(Ticket(11), true);
        queue.set_waited(Ticket(3), false);
        assert_eq!(picks(&mut queue, t0), [11, 1, 12, 3], "the promise behind a waited one gets no priority");
    }

    #[test]
    fn an_unknown_ticket_changes_nothing() {
        let t0 = start();
        let mut queue = PollQueue::default();
        queue.set_due(Ticket(1), t0);
        queue.mark_polling(Ticket(1));
        queue.set_waited(Ticket(1), true);
        queue.abandon(Ticket(1));
        queue.remove(Ticket(1));
        assert_eq!((queue.next(t0), queue.wake_at(), queue.len()), (None, None, 0));
    }

    #[test]
    fn a_promise_takes_little_memory() {
        // A hash table is filled to 7/16 at worst, the nodes of a B-tree to 5/11; a promise is on one list and in one order.
        let entry =
            size_of::<(Ticket, Entry)>() * 16 / 7 + (size_of::<(Instant, Ticket)>() + size_of::<Ticket>() * 2) * 11 / 5;
        assert!(entry < 220, "{entry} bytes");
    }

    #[test]
    fn picks_from_twenty_thousand_promises_are_fast() {
        let t0 = start();
        let mut queue = PollQueue::default();
        for ticket in 0..20_000 {
            queue.insert(Ticket(ticket), ClientId(ticket % 50), ticket % 50 < 10, t0);
        }
        // With a scan per pick this would be 400 million steps.
        let picked = picks(&mut queue, t0);
        assert_eq!(picked.len(), 10 * FRONT + 40 * 400);
        assert_eq!(picked[..50], (0..50).collect::<Vec<_>>());
    }
}
