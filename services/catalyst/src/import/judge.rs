//! Judges the rows of a time log by a mapping: a row becomes an entry that keeps every rule, is filtered out, or is rejected with its reason.

use std::borrow::Cow;

use time::Duration;

use super::{
    Error,
    columns::{Column, Header, optional},
    instant::{self, Readings, Zone},
    mapping::Mapping,
    reader::{Record, Rows},
    row::{Entry, Fault, Outcome, Reason, Reject},
    span::{self, Rules},
};

/// The longest entry that is believed unless the caller says otherwise.
pub const DEFAULT_MAX_HOURS: u32 = 24;

/// A mapping bound to the columns of one file.
#[derive(Debug)]
pub struct Judge {
    width: usize,
    filter: Vec<(usize, Vec<String>)>,
    external_id: Column,
    client: Column,
    project: Column,
    consultant: Column,
    started_at: Vec<Column>,
    ended_at: Vec<Column>,
    break_minutes: Option<Column>,
    worked_minutes: Option<Column>,
    note: Option<Column>,
    billable: Option<Column>,
    zone: Option<Column>,
    default_zone: Option<Zone>,
    date_formats: Vec<String>,
    decimal_comma: bool,
    rules: Rules,
}

impl Judge {
    /// Finds the columns of the mapping and of its filter in the header.
    pub fn new(mapping: &Mapping, rows: &Rows, max_hours: u32) -> Result<Self, Error> {
        let mut header = Header::new(rows);
        let columns = &mapping.columns;
        let judge = Self {
            width: rows.header().len(),
            filter: mapping
                .filter
                .iter()
                .map(|(column, values)| {
                    (
                        header.find("filter", column).index,
                        values.values().to_vec(),
                    )
                })
                .collect(),
            external_id: header.find("columns.external_id", &columns.external_id),
            client: header.find("columns.client", &columns.client),
            project: header.find("columns.project", &columns.project),
            consultant: header.find("columns.consultant", &columns.consultant),
            started_at: header.find_all("columns.started_at", &columns.started_at),
            ended_at: header.find_all("columns.ended_at", &columns.ended_at),
            break_minutes: header
                .find_some("columns.break_minutes", columns.break_minutes.as_deref()),
            worked_minutes: header
                .find_some("columns.worked_minutes", columns.worked_minutes.as_deref()),
            note: header.find_some("columns.note", columns.note.as_deref()),
            billable: header.find_some("columns.billable", columns.billable.as_deref()),
            zone: header.find_some("columns.zone", columns.zone.as_deref()),
            default_zone: mapping.zone.clone(),
            date_formats: mapping.date_formats.values().to_vec(),
            decimal_comma: mapping.decimal_comma,
            rules: Rules {
                tolerance: Duration::minutes(mapping.tolerance_minutes.into()),
                max_hours,
            },
        };
        header.complete()?;
        Ok(judge)
    }

    /// Judges one row of the file; depends on nothing but the row.
    pub fn judge(&self, record: &Record) -> Outcome {
        if record.len() == self.width && !self.keeps(record) {
            return Outcome::Filtered;
        }
        match self.entry(record) {
            Ok(entry) => Outcome::Entry(Box::new(entry)),
            Err((reason, message)) => Outcome::Rejected(Reject {
                line: record.line,
                external_id: self.external_id.text(record).unwrap_or_default().to_owned(),
                reason,
                message,
            }),
        }
    }

    fn keeps(&self, record: &Record) -> bool {
        self.filter.iter().all(|(index, values)| {
            let field = record.get(*index).unwrap_or_default().trim_ascii();
            values.iter().any(|value| value.as_bytes() == field)
        })
    }

    fn entry(&self, record: &Record) -> Result<Entry, Fault> {
        if record.len() != self.width {
            return Err((
                Reason::RaggedRow,
                format!(
                    "the row has {} fields and the header {}: quote the fields that hold the delimiter",
                    record.len(),
                    self.width
                ),
            ));
        }
        let zone = self.zone(record)?;
        let starts = self.readings(record, &self.started_at, &zone)?;
        let ends = self.readings(record, &self.ended_at, &zone)?;
        let pause = self
            .minutes(record, self.break_minutes.as_ref())?
            .unwrap_or_default();
        let worked = self.minutes(record, self.worked_minutes.as_ref())?;
        let (start, end) = self.rules.span(starts, ends, pause, worked)?;
        Ok(Entry {
            line: record.line,
            external_id: self.external_id.required(record)?.to_owned(),
            client: self.client.required(record)?.to_owned(),
            project: self.project.required(record)?.to_owned(),
            consultant: self.consultant.required(record)?.to_owned(),
            started_at: instant::utc(start),
            ended_at: instant::utc(end),
            break_minutes: span::whole_minutes(pause)?,
            worked_on: zone.day(start),
            time_zone: zone.name().to_owned(),
            billable: self.billable(record)?,
            note: optional(record, self.note.as_ref())?.to_owned(),
        })
    }

    fn zone(&self, record: &Record) -> Result<Cow<'_, Zone>, Fault> {
        match (optional(record, self.zone.as_ref())?, &self.default_zone) {
            ("", Some(zone)) => Ok(Cow::Borrowed(zone)),
            ("", None) => Err((
                Reason::MissingField,
                "the row has no zone: fill it in, or give the mapping a `zone`".to_owned(),
            )),
            (name, _) => Zone::find(name)
                .map(Cow::Owned)
                .map_err(|problem| (Reason::UnknownZone, problem)),
        }
    }

    fn readings(
        &self,
        record: &Record,
        columns: &[Column],
        zone: &Zone,
    ) -> Result<Readings, Fault> {
        let mut text = Cow::Borrowed("");
        for column in columns {
            let part = column.required(record)?;
            text = if text.is_empty() {
                Cow::Borrowed(part)
            } else {
                Cow::Owned(format!("{text} {part}"))
            };
        }
        let formats = &self.date_formats;
        instant::read(formats, zone, &text)
            .map_err(|unreadable| unreadable.fault(&text, formats, zone))
    }

    fn minutes(&self, record: &Record, column: Option<&Column>) -> Result<Option<Duration>, Fault> {
        match optional(record, column)? {
            "" => Ok(None),
            text => {
                let point = if self.decimal_comma { ',' } else { '.' };
                span::parse_minutes(text, point).map(Some).ok_or_else(|| {
                    (
                        Reason::InvalidMinutes,
                        format!("\"{text}\" is no number of minutes like 7 or 7{point}5: correct it, or `decimal_comma` in the mapping"),
                    )
                })
            }
        }
    }

    fn billable(&self, record: &Record) -> Result<Option<bool>, Fault> {
        let text = optional(record, self.billable.as_ref())?;
        match text.to_ascii_lowercase().as_str() {
            "" => Ok(None),
            "yes" | "y" | "true" | "1" => Ok(Some(true)),
            "no" | "n" | "false" | "0" => Ok(Some(false)),
            _ => Err((
                Reason::InvalidBillable,
                format!("\"{text}\" is neither yes nor no: write yes, no, true, false, 1 or 0"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{mapping, reader},
        *,
    };

    const HEADER: &str = "id,client,project,person,start,end";

    /// Judges the one row of `csv` by a mapping with these additions.
    fn judge(keys: &str, columns: &str, csv: impl Into<Vec<u8>>) -> Outcome {
        let mapping = mapping::tests::mapping(keys, columns).unwrap();
        let mut rows = reader::tests::rows(csv, mapping.delimiter).unwrap();
        let judge = Judge::new(&mapping, &rows, DEFAULT_MAX_HOURS).unwrap();
        let mut record = Record::default();
        assert!(rows.read(&mut record).unwrap());
        judge.judge(&record)
    }

    fn entry(keys: &str, columns: &str, csv: impl Into<Vec<u8>>) -> Entry {
        match judge(keys, columns, csv) {
            Outcome::Entry(entry) => *entry,
            other => panic!("{other:?}"),
        }
    }

    fn reject(keys: &str, columns: &str, csv: impl Into<Vec<u8>>) -> Reject {
        match judge(keys, columns, csv) {
            Outcome::Rejected(reject) => reject,
            other => panic!("{other:?}"),
        }
    }

    fn spanning(start: &str, end: &str) -> String {
        format!("{HEADER}\n1,c,p,w,{start},{end}\n")
    }

    #[test]
    fn a_row_becomes_an_entry() {
        let columns = "break_minutes = \"break\"\nworked_minutes = \"worked\"\nnote = \"note\"\nbillable = \"billable\"";
        let csv = format!(
            "{HEADER},break,worked,note,billable\n 7 ,acme,apollo,ann,2024-07-01 00:30,2024-07-01 02:00,15,75,\"Re: \"\"x\"\",\ny\",Yes\n"
        );
        let entry = entry("zone = \"europe/warsaw\"", columns, csv);
        assert_eq!(
            entry,
            Entry {
                line: 2,
                external_id: "7".to_owned(),
                client: "acme".to_owned(),
                project: "apollo".to_owned(),
                consultant: "ann".to_owned(),
                started_at: time::macros::datetime!(2024-06-30 22:30 UTC),
                ended_at: time::macros::datetime!(2024-07-01 0:00 UTC),
                break_minutes: 15,
                worked_on: time::macros::date!(2024 - 07 - 01),
                time_zone: "Europe/Warsaw".to_owned(),
                billable: Some(true),
                note: "Re: \"x\",\ny".to_owned(),
            }
        );
    }

    #[test]
    fn each_broken_rule_has_its_reason_and_its_line() {
        for (start, end, reason) in [
            ("", "2024-07-01 10:00", Reason::MissingField),
            ("1/7/2024", "2024-07-01 10:00", Reason::UnreadableDate),
            ("0016-01-11 16:22", "2024-07-01 10:00", Reason::AbsurdDate),
            (
                "2024-03-31 02:30",
                "2024-03-31 10:00",
                Reason::SkippedLocalTime,
            ),
            (
                "2024-07-01 10:00",
                "2024-07-01 09:59",
                Reason::EndsBeforeStart,
            ),
            ("2024-07-01 10:00", "2024-07-02 10:01", Reason::TooLong),
            ("2024-07-01 10:00,x", "2024-07-01 11:00", Reason::RaggedRow),
        ] {
            let reject = reject("zone = \"Europe/Warsaw\"", "", spanning(start, end));
            assert_eq!(
                (reject.reason, reject.line),
                (reason, 2),
                "{start} {end}: {}",
                reject.message
            );
            assert_eq!(reject.external_id, "1");
        }
    }

    #[test]
    fn zero_length_and_exactly_the_longest_are_accepted() {
        for end in ["2024-07-01 10:00", "2024-07-02 10:00"] {
            entry("", "", spanning("2024-07-01 10:00", end));
        }
    }

    #[test]
    fn breaks_and_worked_minutes_must_fit_the_span() {
        let columns = "break_minutes = \"break\"\nworked_minutes = \"worked\"";
        let row = |pause: &str, worked: &str| {
            format!(
                "{HEADER},break,worked\n1,c,p,w,2024-07-01 10:00,2024-07-01 11:00,{pause},{worked}\n"
            )
        };
        for (pause, worked, expected) in [
            ("15", "45", None),
            ("", "60", None),
            ("60", "", None),
            ("15", "44", None),
            ("15.0", "46", None),
            ("61", "", Some(Reason::BreakExceedsSpan)),
            ("15", "43.9", Some(Reason::WorkedMinutesDisagree)),
            ("15", "47", Some(Reason::WorkedMinutesDisagree)),
            ("-1", "", Some(Reason::InvalidMinutes)),
            ("1.5", "", Some(Reason::InvalidMinutes)),
            ("", "1e2", Some(Reason::InvalidMinutes)),
            ("", "99999999999", Some(Reason::InvalidMinutes)),
        ] {
            let reason = match judge("", columns, row(pause, worked)) {
                Outcome::Rejected(reject) => Some(reject.reason),
                _ => None,
            };
            assert_eq!(reason, expected, "{pause} {worked}");
        }
    }

    #[test]
    fn decimal_commas_are_read_where_the_mapping_says_so() {
        let csv = |worked| {
            format!(
                "id;client;project;person;start;end;worked\n1;c;p;w;2024-07-01 10:00;2024-07-01 10:08;{worked}\n"
            )
        };
        let keys = "delimiter = \";\"\ndecimal_comma = true";
        entry(keys, "worked_minutes = \"worked\"", csv("7,5"));
        assert_eq!(
            reject(keys, "worked_minutes = \"worked\"", csv("7.5")).reason,
            Reason::InvalidMinutes
        );
    }

    #[test]
    fn date_and_time_may_be_columns_of_their_own() {
        let mapping = r#"
            date_formats = "%m/%d/%Y %I:%M %p"
            zone = "UTC"
            [columns]
            external_id = "id"
            client = "id"
            project = "id"
            consultant = "id"
            started_at = ["day", "from"]
            ended_at = ["day", "to"]
        "#;
        let mapping = mapping::tests::parse(mapping).unwrap();
        let mut rows =
            reader::tests::rows("id,day,from,to\n1,7/1/2024,9:00 AM,1:15 PM\n", b',').unwrap();
        let judge = Judge::new(&mapping, &rows, DEFAULT_MAX_HOURS).unwrap();
        let mut record = Record::default();
        rows.read(&mut record).unwrap();
        let Outcome::Entry(entry) = judge.judge(&record) else {
            panic!()
        };
        assert_eq!(
            entry.ended_at,
            time::macros::datetime!(2024-07-01 13:15 UTC)
        );
    }

    #[test]
    fn worked_minutes_tell_which_of_two_equal_hours_was_meant() {
        let row = |worked: &str| {
            format!("{HEADER},worked\n1,c,p,w,2014-11-02 01:16,2014-11-02 01:16,{worked}\n")
        };
        for (worked, minutes) in [("60", 60), ("0", 0), ("", 0)] {
            let entry = entry(
                "zone = \"America/New_York\"",
                "worked_minutes = \"worked\"",
                row(worked),
            );
            assert_eq!(
                (entry.ended_at - entry.started_at).whole_minutes(),
                minutes,
                "{worked}"
            );
        }
        let reject = reject(
            "zone = \"America/New_York\"",
            "worked_minutes = \"worked\"",
            row("30"),
        );
        assert_eq!(reject.reason, Reason::WorkedMinutesDisagree);
    }

    #[test]
    fn an_end_in_the_repeated_hour_is_not_before_its_start() {
        let entry = entry(
            "zone = \"America/New_York\"",
            "",
            spanning("2014-11-02 01:50", "2014-11-02 01:10"),
        );
        assert_eq!((entry.ended_at - entry.started_at).whole_minutes(), 20);
    }

    #[test]
    fn a_zone_of_the_row_wins_over_that_of_the_mapping() {
        let csv = |zone: &str| {
            format!("{HEADER},zone\n1,c,p,w,2024-07-01 10:00,2024-07-01 11:00,{zone}\n")
        };
        assert_eq!(
            entry("", "zone = \"zone\"", csv("America/New_York")).time_zone,
            "America/New_York"
        );
        assert_eq!(entry("", "zone = \"zone\"", csv("")).time_zone, "UTC");
        assert_eq!(
            reject("", "zone = \"zone\"", csv("EDT4")).reason,
            Reason::UnknownZone
        );
    }

    #[test]
    fn rows_outside_of_the_filter_are_not_judged_further() {
        let csv = |organization: &str| {
            format!("{HEADER},organization\n1,c,p,w,junk,junk,{organization}\n")
        };
        for (filter, organization, kept) in [
            ("\"A\"", "A", true),
            ("\"A\"", " A ", true),
            ("\"A\"", "a", false),
            ("[\"A\", \"B\"]", "B", true),
            ("\"\"", "", true),
            ("\"\"", "A", false),
        ] {
            let outcome = judge(
                &format!("filter = {{ organization = {filter} }}"),
                "",
                csv(organization),
            );
            assert_eq!(
                outcome != Outcome::Filtered,
                kept,
                "{filter} {organization}"
            );
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_matter_only_in_columns_that_are_used() {
        let csv = |person: &[u8], extra: &[u8]| {
            [
                b"id,client,project,person,start,end,extra\n1,c,p,",
                person,
                b",2024-07-01 10:00,2024-07-01 11:00,",
                extra,
                b"\n",
            ]
            .concat()
        };
        entry("", "", csv(b"Zo\xc3\xab", b"\xeb"));
        let reject = reject("", "", csv(b"Zo\xeb", b""));
        assert_eq!(reject.reason, Reason::NotUtf8);
        assert!(reject.message.contains("person"));
    }

    proptest! {

        #[test]
        fn an_accepted_entry_has_the_worked_minutes_of_its_row(
            minutes in 0_u32..3000, pause in 0_u32..200, error in -3_i64..=3,
        ) {
            let start = time::macros::datetime!(2024-02-28 22:00 UTC);
            let end = start + Duration::minutes(minutes.into());
            let worked = i64::from(minutes) - i64::from(pause) + error;
            let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]");
            let csv = format!(
                "{HEADER},break,worked\n1,c,p,w,{},{},{pause},{worked}\n",
                start.format(format).unwrap(),
                end.format(format).unwrap()
            );
            let acceptable = minutes <= 24 * 60 && pause <= minutes && error.abs() <= 1 && worked >= 0;
            match judge("", "break_minutes = \"break\"\nworked_minutes = \"worked\"", csv) {
                Outcome::Entry(entry) => {
                    prop_assert!(acceptable);
                    prop_assert_eq!((entry.started_at, entry.ended_at, entry.break_minutes), (start, end, pause));
                }
                _ => prop_assert!(!acceptable),
            }
        }
    }
}
