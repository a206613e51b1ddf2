//! Which page of a list is requested next, and when the list has ended.
//!
//! A list may change while it is read, and a server may return fewer items than requested. So the next page starts where the
//! last one ended, and the list ends at the total of the last page, or with a page that has nothing new. Each page advances by
//! at least one item, so every list ends.

/// How far a list has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paging {
    page_size: u64,
    offset: u64,
    /// The maximum number of items still wanted; `None` is all.
    left: Option<u64>,
    ended: bool,
}

/// A page to request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRequest {
    pub(crate) limit: u64,
    pub(crate) offset: u64,
}

impl Paging {
    /// From the start, in pages of this size; zero counts as one.
    pub(crate) fn new(page_size: u64) -> Self {
        Paging { page_size: page_size.max(1), offset: 0, left: None, ended: false }
    }

    pub(crate) fn page_size(&mut self, page_size: u64) {
        self.page_size = page_size.max(1);
    }

    /// The maximum number of items from here on.
    pub(crate) fn limit(&mut self, items: u64) {
        self.left = Some(items);
    }

    /// The next page, unless the list has ended.
    pub(crate) fn next(&self) -> Option<PageRequest> {
        let limit = self.left.map_or(self.page_size, |left| left.min(self.page_size));
        (!self.ended && limit > 0).then_some(PageRequest { limit, offset: self.offset })
    }

    /// Records a page: its number of items, whether it repeats the page before, and the total number of items in the list if
    /// the server gives it. Returns how many of the items belong to the list.
    pub(crate) fn received(&mut self, received: usize, repeated: bool, total: Option<u64>) -> usize {
        let requested = self.next().map_or(0, |page| page.limit);
        let received = received as u64;
        self.offset = self.offset.saturating_add(received);
        self.ended |= match total {
            _ if received == 0 => true,
            Some(total) => self.offset >= total,
            None => repeated || received < requested,
        };
        let kept = if repeated && total.is_none() { 0 } else { received.min(self.left.unwrap_or(received)) };
        self.left = self.left.map(|left| left - kept);
        usize::try_from(kept).unwrap_or(usize::MAX)
    }

    /// Whether a page without items lacks some: the list has more than were read.
    pub(crate) fn lacks_items(&self, received: usize, total: Option<u64>) -> bool {
        received == 0 && total.is_some_and(|total| total > self.offset)
    }

    /// Requests no more pages.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    /// Reads a list of this number of items from a server that returns at most `max` at once. Returns the requested pages and
    /// the number of items read.
    fn read(mut paging: Paging, items: u64, max: u64, has_total: bool) -> (Vec<(u64, u64)>, u64) {
        let (mut requested, mut read) = (Vec::new(), 0);
        while let Some(PageRequest { limit, offset }) = paging.next() {
            requested.push((limit, offset));
            let received = limit.min(max).min(items.saturating_sub(offset));
            read += paging.received(received as usize, false, has_total.then_some(items)) as u64;
        }
        (requested, read)
    }

    #[test]
    fn pages_are_requested_up_to_the_total() {
        for (page, items, max, has_total, expected) in [
            (2, 5, 9, true, vec![(2, 0), (2, 2), (2, 4)]),
            (2, 4, 9, true, vec![(2, 0), (2, 2)]),
            (2, 0, 9, true, vec![(2, 0)]),
            // The server returns fewer than requested.
            (4, 5, 2, true, vec![(4, 0), (4, 2), (4, 4)]),
            // The server gives no total: a page that is not full is the last.
            (2, 5, 9, false, vec![(2, 0), (2, 2), (2, 4)]),
            (2, 4, 9, false, vec![(2, 0), (2, 2), (2, 4)]),
            (0, 2, 9, true, vec![(1, 0), (1, 1)]),
        ] {
            assert_eq!(read(Paging::new(page), items, max, has_total), (expected, items));
        }
    }

    #[test]
    fn no_more_than_the_limit_is_requested() {
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
            assert_eq!(paging.received(3, false, Some(total)), 3, "received items count");
            assert_eq!(paging.next().is_none(), ends, "{total}");
        }
        // An empty page ends it, and lacks items if the total promises more.
        let mut paging = Paging::new(3);
        paging.received(3, false, Some(9));
        let lacking = [None, Some(0), Some(3), Some(4)].map(|total| paging.lacks_items(0, total));
        assert_eq!((lacking, paging.lacks_items(1, Some(9))), ([false, false, false, true], false));
        assert_eq!((paging.received(0, false, Some(9)), paging.next()), (0, None));
    }

    #[test]
    fn a_repeated_page_ends_the_list() {
        let mut paging = Paging::new(2);
        assert_eq!(paging.received(2, false, None), 2);
        assert!(paging.next().is_some());
        assert_eq!(paging.received(2, true, None), 0);
        assert_eq!(paging.next(), None);
    }

    #[test]
    fn surplus_items_are_dropped() {
        let mut paging = Paging::new(2);
        paging.limit(3);
        assert_eq!(paging.received(9, false, Some(20)), 3);
        assert_eq!(paging.next(), None);
    }

    quickcheck! {
        fn every_list_is_read_whole(page: u8, items: u8, max: u8, limit: Option<u8>) -> bool {
            let mut paging = Paging::new(u64::from(page));
            if let Some(limit) = limit {
                paging.limit(u64::from(limit));
            }
            let wanted = u64::from(limit.unwrap_or(u8::MAX).min(items));
            read(paging, u64::from(items), u64::from(max).max(1), true).1 == wanted
        }

        fn every_list_ends(pages: Vec<(u8, Option<u64>)>) -> bool {
            let mut paging = Paging::new(5);
            let mut rest = pages.iter().chain(std::iter::repeat(&(0, None)));
            let mut requested = 0;
            while paging.next().is_some() {
                let (received, total) = rest.next().unwrap();
                paging.received(usize::from(*received), false, *total);
                requested += 1;
            }
            requested <= pages.len() + 1
        }
    }
}
