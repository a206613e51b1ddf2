//! A list of the service, read page by page.

use std::fmt;
use std::iter::FusedIterator;
use std::vec;

use super::RestClient;
use crate::error::Result;
use crate::rules::paging::{Ask, Paging};

/// The Python command line asks for at most so many at once.
const PAGE_SIZE: u64 = 100;

/// A page of so many items, from an offset: its items, and how many there are in all where the service says so.
type Fetch<T> = fn(&RestClient, u64, u64) -> Result<(Vec<T>, Option<u64>)>;

/// A list of the service, fetched page by page as it is read: the first request is made by the first call of `next`, and
/// whoever stops reading asks for no more.
///
/// A page that cannot be fetched is an error, and the end of the list. A list that changes while it is read may lack an
/// item or have one twice; it ends all the same.
///
/// # Examples
///
/// ```no_run
/// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
/// let largest = rest.user_checkpoints().collect::<Result<Vec<_>, _>>()?.into_iter().max_by_key(|c| c.size_bytes);
///
/// // Three runs: one request, for three.
/// let mut runs = rest.training_runs().limit(3);
/// while let Some(run) = runs.next().transpose()? {
///     println!("{} of {:?}", run.training_run_id, runs.total_count());
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a list is fetched as it is read"]
pub struct Listing<T> {
    rest: RestClient,
    fetch: Fetch<T>,
    paging: Paging,
    items: vec::IntoIter<T>,
    /// The first item of the last page.
    first: Option<T>,
    total: Option<u64>,
}

impl<T> Listing<T> {
    pub(super) fn new(rest: &RestClient, fetch: Fetch<T>) -> Self {
        let paging = Paging::new(PAGE_SIZE);
        Listing { rest: rest.clone(), fetch, paging, items: Vec::new().into_iter(), first: None, total: None }
    }

    /// Asks for so many items at once. Defaults to 100; zero counts as one.
    pub fn page_size(mut self, items: u64) -> Self {
        self.paging.page_size(items);
        self
    }

    /// Ends after so many items. Unlike [`take`](Iterator::take), it asks for no more of them. Defaults to all.
    pub fn limit(mut self, items: u64) -> Self {
        self.paging.limit(items);
        self
    }

    /// How many items there are in all, as the page that was fetched last said; none before the first page and where the
    /// service does not say.
    #[must_use]
    pub fn total_count(&self) -> Option<u64> {
        self.total
    }
}

impl<T: Clone + PartialEq> Iterator for Listing<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        loop {
            if let Some(item) = self.items.next() {
                return Some(Ok(item));
            }
            let Ask { limit, offset } = self.paging.next()?;
            let (mut items, total) = match (self.fetch)(&self.rest, limit, offset) {
                Ok(page) => page,
                Err(error) => {
                    self.paging.end();
                    return Some(Err(error));
                }
            };
            let known = items.first().is_some_and(|first| self.first.as_ref() == Some(first));
            self.first = items.first().cloned();
            self.total = total;
            items.truncate(self.paging.note(items.len(), known, total));
            self.items = items.into_iter();
        }
    }
}

impl<T: Clone + PartialEq> FusedIterator for Listing<T> {}

impl<T> fmt::Debug for Listing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing").field("paging", &self.paging).field("total", &self.total).finish_non_exhaustive()
    }
}
