//! A list of the service, fetched page by page.

use std::fmt;
use std::iter::FusedIterator;
use std::vec;

use super::client::RestClient;
use crate::error::{Error, ErrorKind, Result};
use crate::rules::pagination::{PageRequest, Paging};

/// The page size of the Python command line.
const PAGE_SIZE: u64 = 100;

/// Fetches a page by limit and offset: its items, and the total number if the service gives it.
type Fetch<T> = Box<dyn Fn(&RestClient, u64, u64) -> Result<(Vec<T>, Option<u64>)> + Send + Sync>;

/// A list of the service, fetched page by page while it is read. The first call of `next` makes the first request, and no
/// page is requested before it is needed. `next` blocks for the request and its retries.
///
/// A page that cannot be fetched is an error, and ends the list; so is one without items, if there are more by the total number. If the list changes while it is read, an item may be missing
/// or appear twice.
///
/// # Examples
///
/// ```no_run
/// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
/// let largest = rest.user_checkpoints().collect::<Result<Vec<_>, _>>()?.into_iter().max_by_key(|c| c.size_bytes);
///
/// // One request, for three runs.
/// let mut runs = rest.training_runs().limit(3);
/// while let Some(run) = runs.next().transpose()? {
///     println!("{} of {:?}", run.training_run_id, runs.total_count());
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a list is fetched while it is read"]
pub struct Pages<T> {
    rest: RestClient,
    fetch: Fetch<T>,
    paging: Paging,
    items: vec::IntoIter<T>,
    /// The first item of the last page.
    first: Option<T>,
    total: Option<u64>,
}

impl<T> Pages<T> {
    pub(super) fn new(
        rest: &RestClient,
        fetch: impl Fn(&RestClient, u64, u64) -> Result<(Vec<T>, Option<u64>)> + Send + Sync + 'static,
    ) -> Self {
        Pages {
            rest: rest.clone(),
            fetch: Box::new(fetch),
            paging: Paging::new(PAGE_SIZE),
            items: Vec::new().into_iter(),
            first: None,
            total: None,
        }
    }

    /// The number of items per request. Defaults to 100; zero counts as one.
    pub fn page_size(mut self, items: u64) -> Self {
        self.paging.page_size(items);
        self
    }

    /// The maximum number of items. Unlike [`take`](Iterator::take), it also limits what is requested. Defaults to all.
    pub fn limit(mut self, items: u64) -> Self {
        self.paging.limit(items);
        self
    }

    /// The total number of items according to the last page. `None` before the first page, and if the service does not give
    /// it.
    #[must_use]
    pub fn total_count(&self) -> Option<u64> {
        self.total
    }
}

impl<T: Clone + PartialEq> Iterator for Pages<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        loop {
            if let Some(item) = self.items.next() {
                return Some(Ok(item));
            }
            let PageRequest { limit, offset } = self.paging.next()?;
            let page = (self.fetch)(&self.rest, limit, offset);
            let page = page.and_then(|(items, total)| match self.paging.lacks_items(items.len(), total) {
                true => Err(lacking(offset, total)),
                false => Ok((items, total)),
            });
            let (mut items, total) = match page {
                Ok(page) => page,
                Err(error) => {
                    self.paging.end();
                    return Some(Err(error));
                }
            };
            let repeated = items.first().is_some_and(|first| self.first.as_ref() == Some(first));
            self.first = items.first().cloned();
            self.total = total;
            items.truncate(self.paging.received(items.len(), repeated, total));
            self.items = items.into_iter();
        }
    }
}

fn lacking(offset: u64, total: Option<u64>) -> Error {
    let total = total.unwrap_or_default();
    Error::new(ErrorKind::Decode, format!("the page after {offset} of {total} items of the list is empty"))
        .with_hint("this is a fault of the service; the items before this error are right")
}

impl<T: Clone + PartialEq> FusedIterator for Pages<T> {}

impl<T> fmt::Debug for Pages<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("paging", &self.paging).field("total", &self.total).finish_non_exhaustive()
    }
}
