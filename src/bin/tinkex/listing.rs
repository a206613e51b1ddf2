//! What the `list` commands share: `--limit`, and the titles of their tables.

use clap::Args;
use tinkex::rest::Pages;

use crate::bars;
use crate::failure::Failure;
use crate::number::at_least;

#[derive(Args, Debug)]
pub(crate) struct ListOptions {
    /// Maximum number of items to list; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 20, allow_negative_numbers = true, value_parser = at_least(0_u64))]
    limit: u64,
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
    /// Fetches the items up to the limit, with a progress bar.
    pub(crate) fn fetch<T: Clone + PartialEq>(&self, mut pages: Pages<T>) -> Result<Items<T>, Failure> {
        if self.limit > 0 {
            pages = pages.limit(self.limit);
        }
        let bar = bars::items();
        let mut items = Vec::new();
        while let Some(item) = pages.next().transpose()? {
            items.push(item);
            let count = items.len() as u64;
            let total = pages.total_count().unwrap_or(0).max(count);
            bar.set_length(if self.limit > 0 { total.min(self.limit) } else { total });
            bar.set_position(count);
        }
        bar.finish_and_clear();
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
