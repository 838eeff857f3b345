//! The arithmetic of an entry: start, end, break and worked minutes must fit each other.

use jiff::Timestamp;
use time::Duration;

use super::{
    instant::{self, Readings},
    row::{Fault, Reason},
};

/// How much is believed.
#[derive(Debug)]
pub(super) struct Rules {
    /// Between end − start − break and the worked minutes.
    pub(super) tolerance: Duration,
    /// From start to end.
    pub(super) max_hours: u32,
}

impl Rules {
    /// The readings to believe: the earliest, unless clocks were set back over the start or the end and only later ones keep the rules.
    pub(super) fn span(
        &self,
        starts: Readings,
        ends: Readings,
        pause: Duration,
        worked: Option<Duration>,
    ) -> Result<(Timestamp, Timestamp), Fault> {
        let check =
            |(start, end)| self.check(instant::utc(end) - instant::utc(start), pause, worked);
        let earliest = (starts.first, ends.first);
        let believed = starts
            .iter()
            .flat_map(|start| ends.iter().map(move |end| (start, end)))
            .find(|pair| check(*pair).is_ok())
            .unwrap_or(earliest);
        check(believed).map(|()| believed)
    }

    fn check(
        &self,
        span: Duration,
        pause: Duration,
        worked: Option<Duration>,
    ) -> Result<(), Fault> {
        if span.is_negative() {
            return Err((
                Reason::EndsBeforeStart,
                "the end is before the start: correct one of them".to_owned(),
            ));
        }
        if span > Duration::hours(self.max_hours.into()) {
            return Err((
                Reason::TooLong,
                format!(
                    "start and end are {} apart, over {} h: correct them, or raise --max-hours",
                    clock(span),
                    self.max_hours
                ),
            ));
        }
        if pause > span {
            return Err((
                Reason::BreakExceedsSpan,
                format!(
                    "the break of {} is longer than the span of {}: correct one of them",
                    clock(pause),
                    clock(span)
                ),
            ));
        }
        match worked {
            Some(worked) if (span - pause - worked).abs() > self.tolerance => Err((
                Reason::WorkedMinutesDisagree,
                format!(
                    "start, end and break leave {}, the row says {}: correct one of them, or raise `tolerance_minutes`",
                    clock(span - pause),
                    clock(worked)
                ),
            )),
            _ => Ok(()),
        }
    }
}

/// A break as the API wants it.
pub(super) fn whole_minutes(pause: Duration) -> Result<u32, Fault> {
    u32::try_from(pause.whole_minutes())
        .ok()
        .filter(|minutes| Duration::minutes((*minutes).into()) == pause)
        .ok_or_else(|| {
            (
                Reason::InvalidMinutes,
                format!(
                    "the break of {} is no whole number of minutes: round it",
                    clock(pause)
                ),
            )
        })
}

/// A number of minutes without sign, exponent or thousands separators, exact to a millionth.
pub(super) fn parse_minutes(text: &str, point: char) -> Option<Duration> {
    let (whole, fraction) = text.split_once(point).unwrap_or((text, "0"));
    if [whole, fraction]
        .iter()
        .any(|digits| digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return None;
    }
    let millionths: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    Some(
        Duration::minutes(whole.parse::<u32>().ok()?.into())
            + Duration::microseconds(millionths * 60),
    )
}

/// Hours, minutes and, where there are any, seconds: `1:05`, `1:05:30`.
fn clock(span: Duration) -> String {
    let seconds = span.whole_seconds();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match seconds {
        0 => format!("{hours}:{minutes:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn minutes_are_read_as_they_are_written(whole in any::<u32>(), hundredths in 0_i64..100) {
            let expected = Duration::minutes(whole.into()) + Duration::milliseconds(hundredths * 600);
            prop_assert_eq!(parse_minutes(&format!("{whole}.{hundredths:02}"), '.'), Some(expected));
            prop_assert_eq!(parse_minutes(&format!("{whole},{hundredths:02}00000009"), ','), Some(expected));
        }

        #[test]
        fn text_that_is_no_number_is_never_read(text in "[-+ e._x]{0,3}[0-9]{0,3}[-+ e._,x]{1,3}[0-9]{0,2}") {
            let plain = text.split_once('.').is_some_and(|(whole, fraction)| {
                [whole, fraction].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
            });
            prop_assert_eq!(parse_minutes(&text, '.').is_some(), plain);
        }
    }
}
