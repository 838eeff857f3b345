//! A stretch of work on the clock. Pure.
//!
//! Invariant: a [`Span`] keeps the rules of time: it ends no earlier than it begins, its break fits in, and its day is
//! the one that the clocks of its zone showed when it began.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use time::{Date, Duration, OffsetDateTime, UtcOffset};

use crate::refusal::Refusal;

/// The longest that an entry may last, unless an import says otherwise.
pub const LONGEST: Duration = Duration::hours(24);

/// From when to when, where, and how much of it was work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// When the work began.
    pub started_at: OffsetDateTime,
    /// When it ended; equal to `started_at` for an entry without duration.
    pub ended_at: OffsetDateTime,
    /// How long it paused in between; 0 to the whole.
    pub break_minutes: i32,
    /// From start to end without the break, rounded down.
    pub worked_minutes: i32,
    /// The date of `started_at` in `time_zone`.
    pub worked_on: Date,
    /// The IANA name, spelled as the tables do.
    pub time_zone: String,
}

impl Span {
    /// A span that keeps the rules and lasts at most `longest`.
    pub fn new(
        started_at: OffsetDateTime,
        ended_at: OffsetDateTime,
        break_minutes: i32,
        time_zone: &str,
        longest: Duration,
    ) -> Result<Self, Refusal> {
        let lasts = ended_at - started_at;
        if lasts.is_negative() {
            return Err(Refusal::EndsBeforeStart);
        }
        let zone = zone(time_zone).ok_or(Refusal::UnknownZone)?;
        if lasts > longest {
            return Err(Refusal::TooLong {
                minutes: longest.whole_minutes(),
            });
        }
        let worked_minutes = i32::try_from(lasts.whole_minutes())
            .ok()
            .and_then(|whole| whole.checked_sub(break_minutes))
            .filter(|worked| *worked >= 0 && break_minutes >= 0)
            .ok_or(Refusal::BreakTooLong)?;
        let worked_on = day(started_at, &zone).ok_or(Refusal::UnknownZone)?;
        let time_zone = zone.iana_name().unwrap_or(time_zone).to_owned();
        Ok(Self {
            started_at,
            ended_at,
            break_minutes,
            worked_minutes,
            worked_on,
            time_zone,
        })
    }

    /// How long it lasts, the break included.
    pub fn duration(&self) -> Duration {
        self.ended_at - self.started_at
    }
}

/// A zone of the IANA tables in this program, whatever the machine has installed.
fn zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok().filter(|zone| !zone.is_unknown())
}

/// The date that the clocks of the zone show at an instant.
fn day(at: OffsetDateTime, zone: &TimeZone) -> Option<Date> {
    let instant = Timestamp::from_second(at.unix_timestamp()).ok()?;
    let offset = UtcOffset::from_whole_seconds(zone.to_offset(instant).seconds()).ok()?;
    at.checked_to_offset(offset).map(OffsetDateTime::date)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::macros::{date, datetime};

    const MORNING: OffsetDateTime = datetime!(2024-07-01 08:00 UTC);

    fn lasting(duration: Duration, break_minutes: i32) -> Result<Span, Refusal> {
        Span::new(MORNING, MORNING + duration, break_minutes, "UTC", LONGEST)
    }

    fn day_in(zone: &str, started_at: OffsetDateTime) -> Result<Date, Refusal> {
        Span::new(started_at, started_at, 0, zone, LONGEST).map(|span| span.worked_on)
    }

    #[test]
    fn seconds_that_fill_no_minute_are_not_worked() {
        let span = lasting(Duration::seconds(3_659), 15).unwrap();
        assert_eq!(span.worked_minutes, 45);
    }

    #[test]
    fn an_entry_may_last_nothing_or_a_whole_day_and_not_a_moment_more() {
        assert_eq!(
            lasting(Duration::ZERO, 0).map(|span| span.worked_minutes),
            Ok(0)
        );
        assert_eq!(
            lasting(LONGEST, 0).map(|span| span.worked_minutes),
            Ok(1_440)
        );
        let more = LONGEST + Duration::microseconds(1);
        assert_eq!(lasting(more, 0), Err(Refusal::TooLong { minutes: 1_440 }));
        assert_eq!(
            lasting(-Duration::microseconds(1), 0),
            Err(Refusal::EndsBeforeStart)
        );
    }

    #[test]
    fn a_break_takes_at_most_the_whole() {
        assert_eq!(
            lasting(Duration::HOUR, 60).map(|span| span.worked_minutes),
            Ok(0)
        );
        for out_of_range in [-1, 61, i32::MIN, i32::MAX] {
            assert_eq!(
                lasting(Duration::HOUR, out_of_range),
                Err(Refusal::BreakTooLong)
            );
        }
    }

    #[test]
    fn work_counts_for_the_day_on_the_wall_where_it_was_done() {
        let late = datetime!(2024-07-01 22:30 UTC);
        assert_eq!(day_in("Europe/Vienna", late), Ok(date!(2024 - 07 - 02)));
        assert_eq!(day_in("America/New_York", late), Ok(date!(2024 - 07 - 01)));
        assert_eq!(
            day_in("Pacific/Kiritimati", datetime!(2024-06-30 10:00 UTC)),
            Ok(date!(2024 - 07 - 01))
        );
        // Vienna is an hour ahead in winter and two in summer.
        assert_eq!(
            day_in("Europe/Vienna", datetime!(2024-01-01 22:30 UTC)),
            Ok(date!(2024 - 01 - 01))
        );
    }

    #[test]
    fn only_iana_zones_are_known_and_each_has_one_spelling() {
        let spelled =
            |name| Span::new(MORNING, MORNING, 0, name, LONGEST).map(|span| span.time_zone);
        assert_eq!(spelled("europe/vienna"), Ok("Europe/Vienna".to_owned()));
        for unknown in [
            "",
            "CET+1",
            "Etc/Unknown",
            "Mars/Olympus",
            "+02:00",
            "../etc/passwd",
        ] {
            assert_eq!(spelled(unknown), Err(Refusal::UnknownZone), "{unknown}");
        }
    }

    proptest! {
        #[test]
        fn worked_and_paused_minutes_make_up_the_whole(
            start in 0_i64..7_000_000_000,
            seconds in 0_i64..=86_400,
            share in 0.0_f64..=1.0,
            zone in prop::sample::select(vec!["UTC", "Asia/Kathmandu", "Pacific/Apia", "America/St_Johns"]),
        ) {
            let started_at = OffsetDateTime::from_unix_timestamp(start).unwrap();
            let ended_at = started_at + Duration::seconds(seconds);
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a share of a day's minutes")]
            let break_minutes = ((seconds / 60) as f64 * share) as i32;
            let span = Span::new(started_at, ended_at, break_minutes, zone, LONGEST).unwrap();
            prop_assert_eq!(i64::from(span.worked_minutes + span.break_minutes), seconds / 60);
            prop_assert!((span.worked_on - started_at.date()).abs() <= Duration::DAY);
        }

        #[test]
        fn what_breaks_a_rule_is_refused_and_never_a_panic(
            start in -100_000_000_000_i64..100_000_000_000,
            seconds in any::<i32>(),
            break_minutes in any::<i32>(),
            zone in "[A-Za-z/+_0-9]{0,20}",
        ) {
            let started_at = OffsetDateTime::from_unix_timestamp(start).unwrap();
            let ended_at = started_at + Duration::seconds(seconds.into());
            if let Ok(span) = Span::new(started_at, ended_at, break_minutes, &zone, LONGEST) {
                prop_assert!(span.worked_minutes >= 0 && span.break_minutes >= 0);
                prop_assert!(span.duration() <= LONGEST && !span.duration().is_negative());
            }
        }
    }
}
