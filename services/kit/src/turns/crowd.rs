//! How many may wait for a turn.
//!
//! Whoever waits long behind others helps nobody: the answer comes late, and those who came meanwhile are late too. So
//! when those who wait have waited for long, few may until all find a place again, and the rest is told at once. Of those
//! places writes may have all, reads four fifths, and reports three, whatever else there is: none of them is shut out.
//! (As in controlled delay, Nichols and Jacobson 2012, it is time that tells a crowd from a burst, not a number: a hundred
//! callers who call again as soon as they are answered are none, nor are those who come while the disk pauses.)

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::class::Class;

/// How long it is a crowd after the last who found no place.
const CALM: Duration = Duration::from_millis(100);

/// Those who wait.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// By the class of their work, from the last to be shed to the first.
    waiting: BTreeMap<Class, usize>,
    /// Until when few may wait.
    until: Option<Instant>,
}

/// Whether one more may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// In the place of one whose work is of this class, or shed sooner.
    Full(Class),
}

impl Crowd {
    /// Whether somebody has found no place, a moment ago.
    pub(super) fn is_there(&self) -> bool {
        self.until.is_some_and(|end| Instant::now() < end)
    }

    pub(super) fn comes(&mut self, class: Class) {
        *self.waiting.entry(class).or_default() += 1;
    }

    pub(super) fn goes(&mut self, class: Class) {
        *self.waiting.entry(class).or_default() -= 1;
    }

    /// Whether one more may wait, when it is a crowd, with as many places as there are turns.
    pub(super) fn room(&self, class: Class, places: usize) -> Room {
        let those_from = |class: Class| -> usize {
            let waiting = self.waiting.range(class..);
            waiting.map(|(_, waiting)| waiting).sum()
        };
        let fifths = match class {
            Class::Health | Class::Write => 5,
            Class::Read => 4,
            Class::Report => 3,
        };
        let of_its_class = (places.saturating_mul(fifths) / 5).max(1);
        if those_from(Class::Health) >= places {
            Room::Full(Class::Health)
        } else if those_from(class) >= of_its_class {
            Room::Full(class)
        } else {
            Room::Free
        }
    }

    /// Somebody finds no place.
    pub(super) fn is_full(&mut self) {
        self.until = Some(Instant::now() + CALM);
    }

    #[cfg(test)]
    pub(super) fn calm(&mut self) {
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_find_no_place_before_reads_and_reads_before_writes() {
        let mut crowd = Crowd::default();
        let fill = |crowd: &mut Crowd, class| {
            let mut found = 0;
            while crowd.room(class, 5) == Room::Free {
                crowd.comes(class);
                found += 1;
            }
            found
        };
        let found = [Class::Report, Class::Read, Class::Write].map(|it| fill(&mut crowd, it));
        assert_eq!(found, [3, 1, 1]);
        assert_eq!(crowd.room(Class::Write, 5), Room::Full(Class::Health));
        crowd.goes(Class::Write);
        assert_eq!(crowd.room(Class::Read, 5), Room::Full(Class::Read));
        // Writes do not keep reads out for good.
        crowd.goes(Class::Read);
        assert_eq!(crowd.room(Class::Read, 5), Room::Free);
        assert_eq!(crowd.room(Class::Report, 5), Room::Full(Class::Report));
        assert_eq!(fill(&mut crowd, Class::Write), 2);
    }

    #[test]
    fn one_that_is_alone_finds_a_place_for_whatever_work() {
        let crowd = Crowd::default();
        for class in [Class::Report, Class::Read, Class::Write] {
            assert_eq!(crowd.room(class, 1), Room::Free);
        }
    }
}
