//! Those of one tenant who hold turns and wait for them.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::oneshot;

use super::{Asker, Turn};
use crate::class::Class;

/// Of one tenant.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) held: u32,
    /// Where its next turn stands in the order.
    pub(super) place: u64,
    pub(super) waiting: VecDeque<Waits>,
}

/// Somebody in a line.
#[derive(Debug)]
pub(super) struct Waits {
    pub(super) asker: Asker,
    pub(super) since: Instant,
    pub(super) turn: oneshot::Sender<Turn>,
}

impl Line {
    /// How many wait in it, by its weight.
    pub(super) fn length(&self) -> u64 {
        let first = self.waiting.front();
        first.map_or(0, |first| length(self.waiting.len(), first.asker))
    }

    /// What its first weighs.
    pub(super) fn weight(&self) -> u32 {
        self.waiting.front().map_or(0, |first| first.asker.weight)
    }

    /// Since when its first waits.
    pub(super) fn first(&self) -> Option<Instant> {
        self.waiting.front().map(|first| first.since)
    }

    /// Where the last stands of those whose work is of the class, or shed sooner; of what is shed first, if there is more.
    pub(super) fn last(&self, class: Class) -> Option<usize> {
        let waiting = self.waiting.iter().enumerate();
        let of_class = waiting.filter(|(_, it)| it.asker.is_bounded() && it.asker.class >= class);
        let last = of_class.max_by_key(|(at, it)| (it.asker.class, *at));
        last.map(|(at, _)| at)
    }

    pub(super) fn take_last(&mut self, class: Class) -> Option<Waits> {
        self.waiting.remove(self.last(class)?)
    }
}

/// How long a line of so many is, by its weight.
pub(super) fn length(waiting: usize, asker: Asker) -> u64 {
    (waiting as u64).saturating_mul(asker.stride())
}
