//! What the `list` commands share: `--limit`, `--columns`, and the titles of their tables.

use std::time::SystemTime;

use clap::{Args, ValueEnum};
use tinkex::rest::Pages;

use crate::failure::Failure;
use crate::number::at_least;
use crate::output::Table;
use crate::screen::{self, Status};

#[derive(Args, Debug)]
pub(crate) struct ListOptions {
    /// Maximum number of items to list; 0 for all [default: 20].
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(0_u64))]
    limit: Option<u64>,
}

/// The limit if the user sets none.
const LIMIT: u64 = 20;

/// A column of a list, by the name that the user chooses it with.
pub(crate) trait Column: ValueEnum + Clone + Copy + Send + Sync + 'static {
    type Item;

    /// The columns if the user chooses none.
    const DEFAULT: &'static [Self];

    fn title(self) -> &'static str;

    fn cell(self, item: &Self::Item, now: SystemTime) -> String;
}

#[derive(Args, Debug)]
pub(crate) struct ColumnOptions<C: Column> {
    /// Columns of the table, separated by commas. JSON documents always have all fields.
    #[arg(short, long, value_name = "COLUMNS", value_enum, value_delimiter = ',', num_args = 1)]
    columns: Vec<C>,
}

impl<C: Column> ColumnOptions<C> {
    /// A table of these items.
    pub(crate) fn table(&self, title: String, items: &[C::Item], now: SystemTime) -> Table {
        let columns = if self.columns.is_empty() { C::DEFAULT } else { &self.columns };
        let mut table = Table::with_columns(title, columns.iter().map(|column| column.title()).collect());
        for item in items {
            table.cells(columns.iter().map(|column| column.cell(item, now)));
        }
        table
    }
}

/// The items of a list, up to the limit.
pub(crate) struct Items<T> {
    pub(crate) items: Vec<T>,
    /// Number of items beyond the limit, if the service reports a total; else 0.
    pub(crate) more: u64,
}

impl<T> Items<T> {
    /// A complete list.
    pub(crate) fn all(items: Vec<T>) -> Self {
        Items { items, more: 0 }
    }

    /// The title of the table, such as `20 training runs (3 more not shown, use --limit to see more)`.
    pub(crate) fn title(&self, one: &str, many: &str, scope: &str) -> String {
        match (self.items.len(), self.more) {
            (0, _) => format!("No {many} found{scope}"),
            (1, 0) => format!("1 {one}{scope}"),
            (count, 0) => format!("{count} {many}{scope}"),
            (count, more) => {
                let name = if count == 1 { one } else { many };
                format!("{count} {name}{scope} ({more} more not shown, use --limit to see more)")
            }
        }
    }
}

impl ListOptions {
    /// A complete list, up to the limit if the user sets one.
    pub(crate) fn limit<T>(&self, mut items: Vec<T>) -> Items<T> {
        let kept = self.limit.filter(|limit| *limit > 0).and_then(|limit| usize::try_from(limit).ok());
        let more = items.len().saturating_sub(kept.unwrap_or(items.len()));
        items.truncate(items.len() - more);
        Items { items, more: more as u64 }
    }

    /// Fetches the items up to the limit, with a progress bar.
    pub(crate) fn fetch<T: Clone + PartialEq>(&self, mut pages: Pages<T>) -> Result<Items<T>, Failure> {
        let limit = self.limit.unwrap_or(LIMIT);
        if limit > 0 {
            pages = pages.limit(limit);
        }
        let bar = screen::start(Status { done: Some(0), ..Status::default() });
        let mut items = Vec::new();
        while let Some(item) = pages.next().transpose()? {
            items.push(item);
            let count = items.len() as u64;
            let total = pages.total_count().unwrap_or(0).max(count);
            let total = if limit > 0 { total.min(limit) } else { total };
            bar.update(|status| (status.done, status.total) = (Some(count), Some(total)));
        }
        drop(bar);
        let more = pages.total_count().unwrap_or(0).saturating_sub(items.len() as u64);
        Ok(Items { items, more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_count_shown_and_omitted_items() {
        for (count, more, title) in [
            (0, 0, "No runs found for x"),
            (1, 0, "1 run for x"),
            (2, 0, "2 runs for x"),
            (1, 2, "1 run for x (2 more not shown, use --limit to see more)"),
            (2, 1, "2 runs for x (1 more not shown, use --limit to see more)"),
        ] {
            let items = Items { items: vec![(); count], more };
            assert_eq!(items.title("run", "runs", " for x"), title);
        }
    }
}
