//! Which page of a list is asked for next, and when the list has ended.
//!
//! A list may change while it is read, and a server may give fewer items than were asked for. So the next page begins
//! where the last one ended, and the list ends at the total that the last page gave, or with a page that brings nothing
//! new. Each page moves on by an item at least: there is no list that is asked for without end.

/// How far a list was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paging {
    page_size: u64,
    offset: u64,
    /// The most items that are still wanted; none is all.
    left: Option<u64>,
    ended: bool,
}

/// A page to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) limit: u64,
    pub(crate) offset: u64,
}

impl Paging {
    /// From the beginning, in pages of this size, at least one item.
    pub(crate) fn new(page_size: u64) -> Self {
        Paging { page_size: page_size.max(1), offset: 0, left: None, ended: false }
    }

    pub(crate) fn page_size(&mut self, page_size: u64) {
        self.page_size = page_size.max(1);
    }

    /// Wants so many items from here on, and no more.
    pub(crate) fn limit(&mut self, items: u64) {
        self.left = Some(items);
    }

    /// The page to ask for, unless the list has ended.
    pub(crate) fn next(&self) -> Option<Ask> {
        let limit = self.left.map_or(self.page_size, |left| left.min(self.page_size));
        (!self.ended && limit > 0).then_some(Ask { limit, offset: self.offset })
    }

    /// A page has brought so many items, all of them known before or not, of so many in all where the server says so.
    /// Returns how many of them belong to the list.
    pub(crate) fn note(&mut self, received: usize, known: bool, total: Option<u64>) -> usize {
        let asked = self.next().map_or(0, |ask| ask.limit);
        let received = received as u64;
        self.offset = self.offset.saturating_add(received);
        self.ended |= match total {
            _ if received == 0 => true,
            Some(total) => self.offset >= total,
            None => known || received < asked,
        };
        let kept = if known && total.is_none() { 0 } else { received.min(self.left.unwrap_or(received)) };
        self.left = self.left.map(|left| left - kept);
        usize::try_from(kept).unwrap_or(usize::MAX)
    }

    /// No more is asked for.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    /// Reads a list of so many items from a server that gives at most `most` of them at once; returns what was asked for
    /// and how many items were read.
    fn read(mut paging: Paging, items: u64, most: u64, says_total: bool) -> (Vec<(u64, u64)>, u64) {
        let (mut asked, mut read) = (Vec::new(), 0);
        while let Some(Ask { limit, offset }) = paging.next() {
            asked.push((limit, offset));
            let received = limit.min(most).min(items.saturating_sub(offset));
            read += paging.note(received as usize, false, says_total.then_some(items)) as u64;
        }
        (asked, read)
    }

    #[test]
    fn pages_are_asked_for_until_the_total_is_there() {
        for (page, items, most, says_total, expected) in [
            (2, 5, 9, true, vec![(2, 0), (2, 2), (2, 4)]),
            (2, 4, 9, true, vec![(2, 0), (2, 2)]),
            (2, 0, 9, true, vec![(2, 0)]),
            // The server gives fewer than asked for.
            (4, 5, 2, true, vec![(4, 0), (4, 2), (4, 4)]),
            // The server does not say how many there are: a page that is not full is the last one.
            (2, 5, 9, false, vec![(2, 0), (2, 2), (2, 4)]),
            (2, 4, 9, false, vec![(2, 0), (2, 2), (2, 4)]),
            (0, 2, 9, true, vec![(1, 0), (1, 1)]),
        ] {
            assert_eq!(read(Paging::new(page), items, most, says_total), (expected, items));
        }
    }

    #[test]
    fn no_more_is_asked_for_than_is_wanted() {
        let limited = |items| {
            let mut paging = Paging::new(4);
            paging.limit(items);
            read(paging, 20, 20, true)
        };
        assert_eq!(limited(0), (vec![], 0));
        assert_eq!(limited(3), (vec![(3, 0)], 3));
        assert_eq!(limited(6), (vec![(4, 0), (2, 4)], 6));
        assert_eq!(limited(8), (vec![(4, 0), (4, 4)], 8));
    }

    #[test]
    fn a_list_that_changes_ends() {
        for (total, ends) in [(0, true), (3, true), (2, true), (4, false)] {
            let mut paging = Paging::new(3);
            assert_eq!(paging.note(3, false, Some(total)), 3, "items that came are items");
            assert_eq!(paging.next().is_none(), ends, "{total}");
        }
        // Items were removed: the page is empty although the total says that there are more.
        let mut paging = Paging::new(3);
        assert_eq!((paging.note(0, false, Some(9)), paging.next()), (0, None));
    }

    #[test]
    fn a_server_that_gives_the_same_page_again_is_not_asked_for_ever() {
        let mut paging = Paging::new(2);
        assert_eq!(paging.note(2, false, None), 2);
        assert!(paging.next().is_some());
        assert_eq!(paging.note(2, true, None), 0);
        assert_eq!(paging.next(), None);
    }

    #[test]
    fn a_server_that_gives_more_than_asked_for_is_cut_off_at_the_limit() {
        let mut paging = Paging::new(2);
        paging.limit(3);
        assert_eq!(paging.note(9, false, Some(20)), 3);
        assert_eq!(paging.next(), None);
    }

    quickcheck! {
        fn every_list_is_read_whole(page: u8, items: u8, most: u8, limit: Option<u8>) -> bool {
            let mut paging = Paging::new(u64::from(page));
            if let Some(limit) = limit {
                paging.limit(u64::from(limit));
            }
            let wanted = u64::from(limit.unwrap_or(u8::MAX).min(items));
            read(paging, u64::from(items), u64::from(most).max(1), true).1 == wanted
        }

        fn a_list_ends_whatever_the_server_says(pages: Vec<(u8, Option<u64>)>) -> bool {
            let mut paging = Paging::new(5);
            let mut rest = pages.iter().chain(std::iter::repeat(&(0, None)));
            let mut asked = 0;
            while paging.next().is_some() {
                let (received, total) = rest.next().unwrap();
                paging.note(usize::from(*received), false, *total);
                asked += 1;
            }
            asked <= pages.len() + 1
        }
    }
}
