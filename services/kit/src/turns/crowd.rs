//! How many may wait for a turn.
//!
//! Whoever waits long behind others helps nobody: the answer comes late, and those who came meanwhile are late too. So
//! once somebody has waited for long, there are as many places to wait in as turns, and who finds none is told at once. Of
//! the places writes may have all, reads and reports four fifths, reports three: none of them is shut out.
//!
//! It is time that tells a crowd from a burst, not a number (as in controlled delay, Nichols and Jacobson 2012). And it is a
//! crowd for as long as many are told: when a burst has passed, or a pause of the disk, all may wait again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::class::Class;

/// How long it is a crowd before it is seen whether it still is one.
const WINDOW: Duration = Duration::from_millis(100);
/// It still is one when at least one is told to come back for so many that had a turn.
const FEW: u32 = 4;

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// By the class of their work, from the last to be shed to the first.
    waiting: BTreeMap<Class, usize>,
    /// Until when it is one at least.
    until: Option<Instant>,
    /// Since that was set.
    told: u32,
    dealt: u32,
}

/// Whether one more may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// In the place of one whose work is of this class, or shed sooner.
    Full(Class),
}

impl Crowd {
    /// Whether few may wait now.
    pub(super) fn is_there(&mut self, now: Instant) -> bool {
        let Some(until) = self.until else {
            return false;
        };
        if now >= until {
            let is_still = now < until + WINDOW && self.told.saturating_mul(FEW) > self.dealt;
            self.until = is_still.then(|| now + WINDOW);
            (self.told, self.dealt) = (0, 0);
        }
        self.until.is_some()
    }

    /// It is one from now on.
    pub(super) fn begins(&mut self, now: Instant) {
        self.until = Some(now + WINDOW);
        (self.told, self.dealt) = (0, 0);
    }

    pub(super) fn comes(&mut self, class: Class) {
        *self.waiting.entry(class).or_default() += 1;
    }

    pub(super) fn goes(&mut self, class: Class) {
        *self.waiting.entry(class).or_default() -= 1;
    }

    /// One who waited has a turn.
    pub(super) fn deals(&mut self) {
        self.dealt = self.dealt.saturating_add(1);
    }

    /// One is told to come back.
    pub(super) fn tells(&mut self) {
        self.told = self.told.saturating_add(1);
    }

    /// Whether one more may wait, when it is a crowd, with as many places as there are turns. The service's own work takes
    /// none.
    pub(super) fn room(&self, class: Class, places: usize) -> Room {
        let full = |of: Class, fifths: usize| {
            let waiting = self.waiting.range(of..).map(|(_, waiting)| waiting);
            let those_from: usize = waiting.sum();
            let places = (places.saturating_mul(fifths) / 5).max(1);
            (of <= class && those_from >= places).then_some(Room::Full(of))
        };
        // The narrowest first, or a read that comes when all is taken would have a write go for it.
        let rooms = [
            full(Class::Report, 3),
            full(Class::Read, 4),
            full(Class::Write, 5),
        ];
        rooms.into_iter().flatten().next().unwrap_or(Room::Free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of a class find a place.
    fn fill(crowd: &mut Crowd, class: Class) -> usize {
        let mut found = 0;
        while crowd.room(class, 5) == Room::Free {
            crowd.comes(class);
            found += 1;
        }
        found
    }

    #[test]
    fn reports_find_no_place_before_reads_and_reads_before_writes() {
        use Class::{Health, Read, Report, Write};
        for (order, found) in [
            ([Report, Read, Write], [3, 1, 1]),
            ([Read, Report, Write], [4, 0, 1]),
            ([Write, Read, Report], [5, 0, 0]),
        ] {
            let mut crowd = Crowd::default();
            for _ in 0..9 {
                crowd.comes(Health);
            }
            assert_eq!(order.map(|it| fill(&mut crowd, it)), found, "{order:?}");
        }
    }

    #[test]
    fn writes_do_not_keep_reads_out_for_good() {
        let mut crowd = Crowd::default();
        fill(&mut crowd, Class::Write);
        assert_eq!(crowd.room(Class::Read, 5), Room::Full(Class::Write));
        crowd.goes(Class::Write);
        assert_eq!(fill(&mut crowd, Class::Read), 1);
    }

    #[test]
    fn no_write_goes_for_a_read_when_reads_have_their_places() {
        let mut crowd = Crowd::default();
        fill(&mut crowd, Class::Read);
        fill(&mut crowd, Class::Write);
        assert_eq!(crowd.room(Class::Read, 5), Room::Full(Class::Read));
        assert_eq!(crowd.room(Class::Report, 5), Room::Full(Class::Read));
        crowd.goes(Class::Read);
        assert_eq!(fill(&mut crowd, Class::Read), 1);
    }

    #[test]
    fn one_that_is_alone_finds_a_place_for_whatever_work() {
        let crowd = Crowd::default();
        for class in [Class::Report, Class::Read, Class::Write] {
            assert_eq!(crowd.room(class, 1), Room::Free);
        }
    }

    #[test]
    fn it_lasts_while_many_are_told_and_ends_when_few_are() {
        let mut now = Instant::now();
        let mut crowd = Crowd::default();
        assert!(!crowd.is_there(now));
        crowd.begins(now);
        for _ in 0..10 {
            assert!(crowd.is_there(now));
            (0..4).for_each(|_| crowd.deals());
            (0..2).for_each(|_| crowd.tells());
            now += WINDOW;
        }
        assert!(crowd.is_there(now));
        (0..40).for_each(|_| crowd.deals());
        (0..10).for_each(|_| crowd.tells());
        now += WINDOW;
        assert!(!crowd.is_there(now));
        // What was told long ago is no news.
        crowd.begins(now);
        crowd.tells();
        assert!(!crowd.is_there(now + 2 * WINDOW));
    }
}
