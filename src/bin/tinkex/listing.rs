//! What the commands `list` share: how many items, and what their titles say.

use clap::Args;
use tinkex::rest::Pages;

use crate::errors::Failure;
use crate::progress;

#[derive(Args, Debug)]
pub(crate) struct Limit {
    /// How many at most; 0 is all of them.
    #[arg(long, value_name = "N", default_value_t = 20, allow_negative_numbers = true)]
    limit: u64,
}

/// The first items of a list.
pub(crate) struct Listed<T> {
    pub(crate) items: Vec<T>,
    /// How many more there are, as far as the service says.
    pub(crate) more: u64,
}

impl<T> Listed<T> {
    /// A list that is whole.
    pub(crate) fn all(items: Vec<T>) -> Self {
        Listed { items, more: 0 }
    }

    /// The title of the table, such as `20 training runs (3 more not shown, use --limit to see more)`.
    pub(crate) fn title(&self, one: &str, many: &str, of: &str) -> String {
        match (self.items.len(), self.more) {
            (0, _) => format!("No {many} found{of}"),
            (1, 0) => format!("1 {one}{of}"),
            (count, 0) => format!("{count} {many}{of}"),
            (count, more) => {
                let name = if count == 1 { one } else { many };
                format!("{count} {name}{of} ({more} more not shown, use --limit to see more)")
            }
        }
    }
}

impl Limit {
    /// Reads a list up to the limit, showing how far it is.
    pub(crate) fn read<T: Clone + PartialEq>(&self, mut pages: Pages<T>) -> Result<Listed<T>, Failure> {
        if self.limit > 0 {
            pages = pages.limit(self.limit);
        }
        let bar = progress::items();
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
        Ok(Listed { items, more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_says_how_many_there_are_and_how_many_are_not_shown() {
        for (count, more, title) in [
            (0, 0, "No runs found for x"),
            (1, 0, "1 run for x"),
            (2, 0, "2 runs for x"),
            (1, 2, "1 run for x (2 more not shown, use --limit to see more)"),
            (2, 1, "2 runs for x (1 more not shown, use --limit to see more)"),
        ] {
            let listed = Listed { items: vec![(); count], more };
            assert_eq!(listed.title("run", "runs", " for x"), title);
        }
    }
}
