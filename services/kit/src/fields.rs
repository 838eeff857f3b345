//! Reading request fields: every violation of a request is collected, then told in one answer.

use std::str::FromStr;

use time::OffsetDateTime;

use crate::ids::Id;

/// One field of a request that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field in the request, `project.code`.
    pub field: String,
    /// What is wrong and what would be right.
    pub description: String,
}

impl Violation {
    /// Whether a value was there and not of its form, as against one that is merely missing.
    pub(crate) fn is_malformed(&self) -> bool {
        !self.description.starts_with(MISSING)
    }
}

/// How the description of a violation begins when the field is merely missing.
pub const MISSING: &str = "is required";

/// Collects the violations of one request. Each reader returns a usable value or records why there is none.
#[derive(Debug, Default)]
pub struct Fields {
    violations: Vec<Violation>,
}

impl Fields {
    /// An empty collection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Records a violation of `field`.
    pub fn reject(&mut self, field: &str, description: impl Into<String>) {
        self.violations.push(Violation {
            field: field.to_owned(),
            description: description.into(),
        });
    }

    /// `Ok(value)` when nothing was rejected; `value` must be read before this is asked.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, crate::Error> {
        match value {
            Some(value) if self.violations.is_empty() => Ok(value),
            _ => Err(crate::Error::Invalid(self.violations)),
        }
    }

    /// `Ok(())` when nothing was rejected.
    pub fn done(self) -> Result<(), crate::Error> {
        self.finish(Some(()))
    }

    /// A required id.
    pub fn id<K>(&mut self, field: &str, text: &str) -> Option<Id<K>> {
        if text.is_empty() {
            self.reject(field, format!("{MISSING}: a UUID"));
            return None;
        }
        let parsed = Id::from_str(text).ok();
        if parsed.is_none() {
            self.reject(field, "must be a UUID");
        }
        parsed
    }

    /// An optional id: empty text is none.
    pub fn optional_id<K>(&mut self, field: &str, text: &str) -> Option<Id<K>> {
        if text.is_empty() {
            None
        } else {
            self.id(field, text)
        }
    }

    /// Required text of 1 to `max` characters once trimmed, without control characters.
    pub fn text(&mut self, field: &str, text: &str, max: usize) -> Option<String> {
        let read = self.optional_text(field, text, max)?;
        if read.is_empty() {
            self.reject(field, format!("{MISSING}: 1 to {max} characters"));
            return None;
        }
        Some(read)
    }

    /// Text of 0 to `max` characters once trimmed, without control characters other than line breaks and tabs.
    pub fn optional_text(&mut self, field: &str, text: &str, max: usize) -> Option<String> {
        let trimmed = text.trim();
        if trimmed.chars().count() > max {
            self.reject(field, format!("must have at most {max} characters"));
            return None;
        }
        if trimmed.chars().any(|c| {
            (c.is_control() && !matches!(c, '\n' | '\r' | '\t')) || is_direction_override(c)
        }) {
            self.reject(
                field,
                "must not contain control or text-direction characters",
            );
            return None;
        }
        Some(trimmed.to_owned())
    }

    /// A required code: 1 to `max` letters, digits, dots, dashes, underscores or slashes; kept as written.
    pub fn code(&mut self, field: &str, text: &str, max: usize) -> Option<String> {
        let read = self.text(field, text, max)?;
        if read
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '/'))
        {
            return Some(read);
        }
        self.reject(
            field,
            "must consist of letters, digits, dots, dashes, underscores and slashes",
        );
        None
    }

    /// An optional e-mail address: one `@` between a local part and a domain with a dot. Whether it is anybody's only
    /// a message to it would tell.
    pub fn optional_email(&mut self, field: &str, text: &str) -> Option<String> {
        let read = self
            .optional_text(field, text, 254)
            .filter(|text| !text.is_empty())?;
        let well_formed = read.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && !domain.contains('@')
                && domain.split('.').count() > 1
                && domain.split('.').all(|label| !label.is_empty())
                && !read.contains(char::is_whitespace)
        });
        if !well_formed {
            self.reject(field, "must be an e-mail address, as in kim@example.com");
            return None;
        }
        Some(read)
    }

    /// A required instant.
    pub fn instant(
        &mut self,
        field: &str,
        value: Option<&prost_types::Timestamp>,
    ) -> Option<OffsetDateTime> {
        if value.is_none() {
            self.reject(field, format!("{MISSING}: a timestamp"));
        }
        self.optional_instant(field, value)
    }

    /// An optional instant between the years 1970 and 2200, cut to microseconds.
    pub fn optional_instant(
        &mut self,
        field: &str,
        value: Option<&prost_types::Timestamp>,
    ) -> Option<OffsetDateTime> {
        let value = value?;
        let read = u32::try_from(value.nanos)
            .ok()
            .filter(|nanos| *nanos < 1_000_000_000)
            .and_then(|nanos| {
                let whole = OffsetDateTime::from_unix_timestamp(value.seconds).ok()?;
                whole.replace_nanosecond(nanos / 1_000 * 1_000).ok()
            })
            .filter(|at| (1970..=2200).contains(&at.year()));
        if read.is_none() {
            self.reject(field, "must be an instant between the years 1970 and 2200");
        }
        read
    }

    /// An optional calendar date `YYYY-MM-DD`: empty text is none.
    pub fn optional_date(&mut self, field: &str, text: &str) -> Option<time::Date> {
        if text.is_empty() {
            return None;
        }
        let read = time::Date::parse(text, DATE)
            .ok()
            .filter(|date| (1970..=2200).contains(&date.year()));
        if read.is_none() {
            self.reject(
                field,
                "must be a date as YYYY-MM-DD between the years 1970 and 2200",
            );
        }
        read
    }
}

/// `YYYY-MM-DD`.
pub const DATE: &[time::format_description::BorrowedFormatItem<'static>] =
    time::macros::format_description!("[year]-[month]-[day]");

/// A date as `YYYY-MM-DD`.
pub fn date_text(date: time::Date) -> String {
    format!(
        "{:04}-{:02}-{:02}",
        date.year(),
        u8::from(date.month()),
        date.day()
    )
}

/// An instant as the wire's timestamp.
pub fn timestamp(at: OffsetDateTime) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.unix_timestamp(),
        nanos: i32::try_from(at.nanosecond()).unwrap_or_default(),
    }
}

/// Characters that turn the direction of the text around them: a name with one reads as another.
fn is_direction_override(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_violation_of_a_request_is_told_at_once() {
        let mut fields = Fields::new();
        fields.text("display_name", "  ", 10);
        fields.code("code", "a b", 10);
        fields.id::<()>("id", "nonsense");
        fields.text("note", "a\u{202E}b", 10);
        let Err(crate::Error::Invalid(violations)) = fields.done() else {
            panic!("accepted")
        };
        let names: Vec<_> = violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(names, ["display_name", "code", "id", "note"]);
    }

    #[test]
    fn absurd_instants_are_refused() {
        let mut fields = Fields::new();
        let year_16 = prost_types::Timestamp {
            seconds: -61_600_000_000,
            nanos: 0,
        };
        assert_eq!(fields.optional_instant("at", Some(&year_16)), None);
        assert_eq!(
            fields.optional_instant(
                "at",
                Some(&prost_types::Timestamp {
                    seconds: 0,
                    nanos: -1
                })
            ),
            None
        );
        assert!(fields.done().is_err());
    }
}
