//! The same policy as a plain list that is searched at each pick: the reference for a property test.

use std::time::{Duration, Instant};

use quickcheck::quickcheck;

use super::super::testing::start;
use super::{ClientId, FRONT, PollQueue, Ticket};

/// The unit of time in the property.
const TICK: Duration = Duration::from_millis(125);

/// All promises, unordered.
#[derive(Default)]
struct Reference {
    promises: Vec<ListedPromise>,
    turns: Vec<(ClientId, u64)>,
    last_turn: u64,
}

#[derive(Clone)]
struct ListedPromise {
    ticket: Ticket,
    client: ClientId,
    ordered: bool,
    due: Instant,
    waited: bool,
    abandoned: bool,
    polling: bool,
}

impl Reference {
    fn turn(&self, client: ClientId) -> Option<u64> {
        self.turns.iter().find(|(id, _)| *id == client).map(|(_, turn)| *turn)
    }

    fn serve(&mut self, client: ClientId) {
        self.last_turn += 1;
        self.turns.retain(|(id, _)| *id != client);
        self.turns.push((client, self.last_turn));
    }

    fn insert(&mut self, ticket: Ticket, client: ClientId, ordered: bool, due: Instant) {
        self.remove(ticket);
        if self.turn(client).is_none() {
            self.serve(client);
        }
        self.promises.push(ListedPromise {
            ticket,
            client,
            ordered,
            due,
            waited: false,
            abandoned: false,
            polling: false,
        });
    }

    fn remove(&mut self, ticket: Ticket) {
        self.promises.retain(|promise| promise.ticket != ticket);
        let promises = &self.promises;
        self.turns.retain(|(client, _)| promises.iter().any(|promise| promise.client == *client));
    }

    fn change(&mut self, ticket: Ticket, change: impl FnOnce(&mut ListedPromise)) {
        if let Some(promise) = self.promises.iter_mut().find(|promise| promise.ticket == ticket) {
            change(promise);
        }
    }

    fn mark_polling(&mut self, ticket: Ticket) {
        self.change(ticket, |promise| promise.polling = true);
        if let Some(client) =
            self.promises.iter().find(|promise| promise.ticket == ticket).map(|promise| promise.client)
        {
            self.serve(client);
        }
    }

    fn candidates(&self) -> impl Iterator<Item = &ListedPromise> {
        self.promises.iter().filter(|promise| {
            let before = self.order(promise).filter(|other| other.ticket < promise.ticket).count();
            !promise.abandoned && !promise.polling && (!promise.ordered || before < FRONT)
        })
    }

    fn order(&self, of: &ListedPromise) -> impl Iterator<Item = &ListedPromise> {
        self.promises.iter().filter(move |promise| promise.client == of.client && !promise.abandoned)
    }

    fn next(&self, now: Instant) -> Option<Ticket> {
        let first = self.candidates().filter(|promise| promise.due <= now).min_by_key(|promise| {
            let later =
                self.order(promise).any(|other| promise.ordered && other.waited && other.ticket > promise.ticket);
            (!(promise.waited || later), self.turn(promise.client), promise.due, promise.ticket)
        });
        first.map(|promise| promise.ticket)
    }
}

quickcheck! {
    fn picks_are_those_of_the_reference(steps: Vec<(u8, u8, u8)>) -> bool {
        let (t0, mut queue, mut reference) = (start(), PollQueue::default(), Reference::default());
        let mut now = t0;
        steps.iter().cycle().take(steps.len() * 4).all(|(what, which, when)| {
            let ticket = Ticket(u64::from(which % 12));
            // Clients with an even id are ordered.
            let client = ClientId(u64::from(which % 3));
            let due = t0 + u32::from(*when) * TICK;
            match what % 9 {
                0 | 1 => {
                    queue.insert(ticket, client, client.0 % 2 == 0, due);
                    reference.insert(ticket, client, client.0 % 2 == 0, due);
                }
                2 => {
                    queue.remove(ticket);
                    reference.remove(ticket);
                }
                3 | 7 => {
                    queue.set_waited(ticket, when % 4 > 0);
                    reference.change(ticket, |promise| promise.waited = when % 4 > 0);
                }
                4 if when % 4 == 0 => {
                    queue.abandon(ticket);
                    reference.change(ticket, |promise| promise.abandoned = true);
                }
                5 => {
                    queue.set_due(ticket, due);
                    reference.change(ticket, |promise| (promise.due, promise.polling) = (due, false));
                }
                6 => now += u32::from(when % 16) * TICK,
                _ => {
                    if let Some(ticket) = queue.next(now) {
                        queue.mark_polling(ticket);
                        reference.mark_polling(ticket);
                    }
                }
            }
            let same = queue.len() == reference.promises.len() && queue.next(now) == reference.next(now);
            let earliest = reference.candidates().map(|promise| promise.due).filter(|due| *due > now).min();
            same && queue.wake_at() == earliest
        })
    }
}
