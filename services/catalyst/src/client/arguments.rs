//! Values of the command line that several commands share, and how resources are named there.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use prost_types::Timestamp;
use proto::common::v1::Money;
use uuid::Uuid;

use super::Usage;

/// Makes a command safe to repeat.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Repeatable {
    /// Makes the command safe to repeat: for 24 hours the same one gets the same answer.
    #[arg(long, value_name = "UUID")]
    request_id: Option<Uuid>,
}

impl Repeatable {
    /// As the contract writes it.
    pub(super) fn id(&self) -> String {
        self.request_id
            .map_or_else(String::new, |id| id.to_string())
    }
}

/// Binds a change to the state that was read.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Current {
    /// Change it only if its etag is still this one.
    #[arg(long, value_name = "ETAG", default_value = "")]
    pub(super) etag: String,
    #[command(flatten)]
    pub(super) repeatable: Repeatable,
}

/// Reads an instant: `2026-11-22T09:00:00Z`, or a day, which begins at midnight UTC.
pub(super) fn instant(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(timestamp(at));
    }
    text.parse::<Date>()
        .ok()
        .and_then(|day| day.to_zoned(TimeZone::UTC).ok())
        .map(|at| timestamp(at.timestamp()))
        .ok_or_else(|| {
            "write an instant like 2026-11-22T09:00:00Z, or a day like 2026-11-22".to_owned()
        })
}

/// Reads an instant, or what a wall clock in `zone` showed: `2026-11-22 09:00`.
pub(super) fn wall_clock(text: &str, zone: &str) -> anyhow::Result<Timestamp> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(timestamp(at));
    }
    let local: DateTime = text.parse().map_err(|_| {
        Usage::new(format!(
            "{text} is no time: write it like \"2026-11-22 09:00\", or with its offset"
        ))
    })?;
    let rules = TimeZone::get(zone).map_err(|_| {
        Usage::new(format!(
            "{zone} is no time zone: give an IANA name such as Europe/Vienna"
        ))
    })?;
    let at = rules.to_ambiguous_timestamp(local).unambiguous().map_err(|_| {
        Usage::new(format!(
            "{text} did not occur once in {zone}, where clocks were set then: give it with its offset"
        ))
    })?;
    Ok(timestamp(at))
}

fn timestamp(at: jiff::Timestamp) -> Timestamp {
    let mut timestamp = Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    };
    timestamp.normalize();
    timestamp
}

/// Reads a day and gives it back as the contract writes it.
pub(super) fn day(text: &str) -> Result<String, String> {
    text.parse::<Date>()
        .map(|day| day.to_string())
        .map_err(|_| "write a day like 2026-11-22".to_owned())
}

/// Reads an amount in whole minor units of a currency: `9500 EUR` is 95 euros.
pub(super) fn money(text: &str) -> Result<Money, String> {
    let parse = || {
        let (amount, currency) = text.split_once(' ')?;
        Some(Money {
            minor_units: amount.parse().ok()?,
            currency_code: currency.trim().to_owned(),
        })
    };
    parse().ok_or_else(|| {
        "write whole minor units and a currency: \"9500 EUR\" is 95 euros".to_owned()
    })
}

/// An amount as [`money`] reads it.
pub(super) fn amount(money: Option<&Money>) -> String {
    money.map_or_else(String::new, |money| {
        format!("{} {}", money.minor_units, money.currency_code)
    })
}

/// A time in UTC, to the second; empty when there is none.
pub(super) fn shown(at: Option<&Timestamp>) -> String {
    at.map_or_else(String::new, |at| {
        Timestamp {
            seconds: at.seconds,
            nanos: 0,
        }
        .to_string()
    })
}

/// The fields that a command changes, at least one.
pub(super) fn mask(fields: &[(&str, bool)]) -> Result<prost_types::FieldMask, Usage> {
    let paths: Vec<String> = fields
        .iter()
        .filter(|(_, is_given)| *is_given)
        .map(|(name, _)| (*name).to_owned())
        .collect();
    if paths.is_empty() {
        return Err(Usage::new(
            "name at least one field to change: --help lists them",
        ));
    }
    Ok(prost_types::FieldMask { paths })
}

/// Whether a resource was named by its id and not by its code.
pub(super) fn is_id(text: &str) -> bool {
    Uuid::try_parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_and_days_are_read() {
        for (text, read) in [
            ("2026-11-22T09:00:00Z", "2026-11-22T09:00:00Z"),
            ("2026-11-22T09:00:00+01:00", "2026-11-22T08:00:00Z"),
            ("2026-11-22", "2026-11-22T00:00:00Z"),
        ] {
            assert_eq!(shown(instant(text).ok().as_ref()), read);
        }
        assert!(instant("yesterday").is_err());
    }

    #[test]
    fn a_wall_clock_is_read_in_its_zone() {
        let read = |text| wall_clock(text, "Europe/Vienna").map(|at| shown(Some(&at)));
        assert_eq!(read("2026-07-01 09:00").unwrap(), "2026-07-01T07:00:00Z");
        assert_eq!(
            read("2026-07-01T09:00:00Z").unwrap(),
            "2026-07-01T09:00:00Z"
        );
        for ambiguous in ["2026-03-29 02:30", "2026-10-25 02:30", "soon"] {
            assert!(read(ambiguous).is_err(), "{ambiguous}");
        }
        assert!(wall_clock("2026-07-01 09:00", "Vienna").is_err());
    }

    #[test]
    fn money_is_whole_minor_units() {
        assert_eq!(amount(money("9500 EUR").ok().as_ref()), "9500 EUR");
        assert!(money("95.00 EUR").is_err());
        assert!(money("9500").is_err());
    }
}
