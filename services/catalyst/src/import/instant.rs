//! Turns the date text of a row into instants; a wall clock that occurred twice gives both of its readings, one that never occurred gives none.

use jiff::{
    Timestamp, Zoned,
    civil::DateTime,
    fmt::strtime::{self, BrokenDownTime},
    tz::{AmbiguousOffset, Offset, TimeZone},
};
use time::{Date, Duration, OffsetDateTime};

use super::row::{Fault, Reason};

/// Years outside of these are slips of the pen: 0016 for 2016, 20111.
const YEARS: std::ops::RangeInclusive<i16> = 1970..=2100;

/// The instants that a date text can mean: one, or two when the clocks were set back over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readings {
    /// The only or the earlier one.
    pub first: Timestamp,
    second: Option<Timestamp>,
}

impl Readings {
    /// The earlier reading, then the later one if there is one.
    pub fn iter(self) -> impl Iterator<Item = Timestamp> {
        std::iter::once(self.first).chain(self.second)
    }
}

/// Why a date text has no instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It matches none of the formats, or the calendar has no such day.
    Format,
    /// Its year is before 1970 or after 2100.
    Year,
    /// The clocks of the zone were set forward over it.
    Gap,
}

impl Unreadable {
    pub(super) fn fault(self, text: &str, formats: &[String], zone: &Zone) -> Fault {
        match self {
            Self::Format => (
                Reason::UnreadableDate,
                format!(
                    "\"{text}\" is no date in the form {}: correct it, or add its form to the mapping",
                    formats.join(" or ")
                ),
            ),
            Self::Year => (
                Reason::AbsurdDate,
                format!("\"{text}\" is not between 1970 and 2100: correct the year"),
            ),
            Self::Gap => (
                Reason::SkippedLocalTime,
                format!(
                    "\"{text}\" never occurred in {}, where clocks were set forward over it: correct the time or the zone",
                    zone.name()
                ),
            ),
        }
    }
}

/// A time zone and its IANA name.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

impl Zone {
    /// The zone of an IANA name, upper or lower case, from the tables inside the program.
    pub fn find(name: &str) -> Result<Self, String> {
        TimeZone::get(name)
            .ok()
            .filter(|rules| !rules.is_unknown())
            .and_then(|rules| {
                Some(Self {
                    name: rules.iana_name()?.to_owned(),
                    rules,
                })
            })
            .ok_or_else(|| {
                format!("unknown time zone \"{name}\": give an IANA name such as \"Europe/Warsaw\"")
            })
    }

    /// The IANA name as the tables spell it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The day on the wall at `at`.
    pub fn day(&self, at: Timestamp) -> Date {
        let offset = self.rules.to_offset(at).seconds();
        (utc(at) + Duration::seconds(offset.into())).date()
    }

    fn readings(&self, local: DateTime) -> Result<Readings, Unreadable> {
        let (first, second) = match self.rules.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => (offset, None),
            AmbiguousOffset::Fold { before, after } => (before, Some(after)),
            AmbiguousOffset::Gap { .. } => return Err(Unreadable::Gap),
        };
        let at = |offset: Offset| offset.to_timestamp(local).map_err(|_| Unreadable::Year);
        Ok(Readings {
            first: at(first)?,
            second: second.map(at).transpose()?,
        })
    }
}

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::find(&name)
    }
}

/// Reads `text` by the first of `formats` that it matches.
/// An offset in the text decides; without one it is the wall clock of `zone`.
pub fn read(formats: &[String], zone: &Zone, text: &str) -> Result<Readings, Unreadable> {
    let (local, parsed) = formats
        .iter()
        .find_map(|format| {
            let parsed = BrokenDownTime::parse(format, text).ok()?;
            Some((parsed.to_datetime().ok()?, parsed))
        })
        .ok_or(Unreadable::Format)?;
    if !YEARS.contains(&local.year()) {
        return Err(Unreadable::Year);
    }
    if parsed.offset().is_some() {
        let first = parsed.to_timestamp().map_err(|_| Unreadable::Format)?;
        return Ok(Readings {
            first,
            second: None,
        });
    }
    zone.readings(local)
}

/// The same instant in the type of the rest of the program.
pub fn utc(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::new(at.as_second(), at.subsec_nanosecond())
}

/// Refuses a format that does not give back a date and time which it wrote itself: a missing part, `%I` without `%p`, an unknown directive.
pub fn check_format(format: &str) -> Result<(), String> {
    let sample = jiff::civil::date(2001, 12, 23).at(15, 47, 0, 0);
    let read_back = sample
        .to_zoned(TimeZone::UTC)
        .and_then(|sample: Zoned| strtime::format(format, &sample))
        .and_then(|text| BrokenDownTime::parse(format, text)?.to_datetime());
    match read_back {
        Ok(read_back) if read_back == sample => Ok(()),
        Ok(_) => Err(format!(
            "\"{format}\" loses a part of the date and time: name year, month, day, hour (%H, or %I with %p) and minute"
        )),
        Err(error) => Err(format!(
            "\"{format}\" is not a date and time format ({error}): write it like \"%m/%d/%Y %H:%M\""
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reads(format: &str, zone: &str, text: &str) -> Result<Vec<String>, Unreadable> {
        let zone = Zone::find(zone).unwrap();
        read(&[format.to_owned()], &zone, text)
            .map(|readings| readings.iter().map(|at| at.to_string()).collect())
    }

    #[test]
    fn dates_are_read_by_their_format() {
        for (format, text) in [
            ("%m/%d/%Y %H:%M", "9/6/2011 15:03"),
            ("%m/%d/%Y %H:%M", "09/06/2011 15:03"),
            ("%d/%m/%Y %H:%M", "6/9/2011 15:03"),
            ("%d.%m.%Y %H:%M:%S", "06.09.2011 15:03:00"),
            ("%m/%d/%Y %I:%M %p", "9/6/2011 3:03 pm"),
            ("%m/%d/%Y %I:%M%p", "9/6/2011 03:03PM"),
            ("%m/%d/%y %H:%M", "9/6/11 15:03"),
            ("%b %d, %Y %I:%M %p", "Sep 6, 2011 3:03 PM"),
            ("%Y-%m-%dT%H:%M:%SZ", "2011-09-06T15:03:00Z"),
        ] {
            check_format(format).unwrap();
            assert_eq!(
                reads(format, "UTC", text).unwrap(),
                ["2011-09-06T15:03:00Z"],
                "{format} {text}"
            );
        }
    }

    #[test]
    fn noon_and_midnight_of_the_twelve_hour_clock_are_told_apart() {
        let read = |text| reads("%m/%d/%Y %I:%M %p", "UTC", text).unwrap();
        assert_eq!(read("9/6/2011 12:00 AM"), ["2011-09-06T00:00:00Z"]);
        assert_eq!(read("9/6/2011 12:00 PM"), ["2011-09-06T12:00:00Z"]);
    }

    #[test]
    fn an_offset_in_the_text_wins_over_the_zone() {
        let read = reads(
            "%Y-%m-%dT%H:%M:%S%:z",
            "America/New_York",
            "2011-09-06T15:03:00+02:00",
        );
        assert_eq!(read.unwrap(), ["2011-09-06T13:03:00Z"]);
    }

    #[test]
    fn the_first_format_that_matches_decides() {
        let formats = ["%d.%m.%Y %H:%M".to_owned(), "%m/%d/%Y %H:%M".to_owned()];
        for text in ["6.9.2011 15:03", "9/6/2011 15:03"] {
            assert_eq!(
                read(&formats, &Zone::find("UTC").unwrap(), text)
                    .unwrap()
                    .first
                    .to_string(),
                "2011-09-06T15:03:00Z"
            );
        }
    }

    #[test]
    fn text_that_is_no_date_is_unreadable() {
        for text in [
            "",
            "\\N",
            "2/30/2011 10:00",
            "13/1/2011 10:00",
            "9/6/2011 24:00",
            "9/6/2011",
            "9/6/2011 15:03 x",
        ] {
            assert_eq!(
                reads("%m/%d/%Y %H:%M", "UTC", text),
                Err(Unreadable::Format),
                "{text}"
            );
        }
    }

    #[test]
    fn absurd_years_are_told_from_unreadable_text() {
        for (text, absurd) in [
            ("1/1/16 9:00", true),
            ("12/31/1969 23:59", true),
            ("1/1/1970 0:00", false),
            ("12/31/2100 23:59", false),
            ("1/1/2101 0:00", true),
        ] {
            assert_eq!(
                reads("%m/%d/%Y %H:%M", "UTC", text) == Err(Unreadable::Year),
                absurd,
                "{text}"
            );
        }
    }

    #[test]
    fn an_hour_that_occurred_twice_gives_both_readings_in_order() {
        let read = reads("%m/%d/%Y %H:%M", "America/New_York", "11/2/2014 1:16");
        assert_eq!(
            read.unwrap(),
            ["2014-11-02T05:16:00Z", "2014-11-02T06:16:00Z"]
        );
    }

    #[test]
    fn an_hour_that_never_occurred_gives_none() {
        assert_eq!(
            reads("%m/%d/%Y %H:%M", "America/New_York", "3/9/2014 2:30"),
            Err(Unreadable::Gap)
        );
    }

    #[test]
    fn the_day_is_the_one_on_the_wall() {
        let late = "2014-06-30T22:30:00Z".parse().unwrap();
        for (zone, day) in [
            ("Europe/Warsaw", "2014-07-01"),
            ("UTC", "2014-06-30"),
            ("America/New_York", "2014-06-30"),
        ] {
            assert_eq!(Zone::find(zone).unwrap().day(late).to_string(), day);
        }
    }

    #[test]
    fn zones_are_found_in_any_case_and_unknown_ones_named() {
        assert_eq!(Zone::find("europe/warsaw").unwrap().name(), "Europe/Warsaw");
        assert!(
            Zone::find("Europe/Warsw")
                .unwrap_err()
                .contains("Europe/Warsw")
        );
    }

    proptest! {
        #[test]
        fn every_reading_of_a_local_time_shows_that_time_on_the_wall(
            minutes in 0_i64..68_000_000,
            zone in prop::sample::select(vec!["UTC", "America/New_York", "Europe/Warsaw", "Australia/Lord_Howe", "Asia/Kolkata"]),
        ) {
            let zone = Zone::find(zone).unwrap();
            let local = Timestamp::from_second(minutes * 60).unwrap().to_zoned(TimeZone::UTC).datetime();
            let text = local.strftime("%m/%d/%Y %H:%M").to_string();
            match read(&["%m/%d/%Y %H:%M".to_owned()], &zone, &text) {
                Ok(readings) => {
                    for at in readings.iter() {
                        prop_assert_eq!(zone.rules.to_datetime(at), local);
                        prop_assert_eq!(utc(at).unix_timestamp(), at.as_second());
                        prop_assert_eq!(zone.day(at).to_string(), local.date().to_string());
                    }
                    prop_assert!(readings.second.is_none_or(|second| second > readings.first));
                }
                Err(unreadable) => prop_assert_eq!(unreadable, Unreadable::Gap),
            }
        }
    }
}
