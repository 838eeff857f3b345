//! What a mapping file may say about a time log; a `Mapping` that exists has formats, zone and delimiter that work.

use std::{collections::BTreeMap, fs, path::Path, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    Error,
    instant::{self, Zone},
};

/// The mappings that need no file, by name.
const BUILTIN: &[(&str, &str)] = &[("cesaw", include_str!("../../mappings/cesaw.toml"))];

/// How the rows of one kind of time log become time entries.
///
/// ```toml
/// date_formats = ["%m/%d/%Y %H:%M", "%m/%d/%Y %I:%M %p"]
/// zone = "Europe/Warsaw"
///
/// [columns]
/// external_id = "Id"
/// client = "Client"
/// project = "Project"
/// consultant = "Email"
/// started_at = ["Start Date", "Start Time"]
/// ended_at = ["End Date", "End Time"]
///
/// [filter]
/// Status = ["approved", "submitted"]
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The file or the built-in name, for messages.
    #[serde(skip)]
    pub name: String,
    /// Which column holds what.
    pub columns: Columns,
    /// `strptime` patterns of the start and the end, tried in order; month-first is `%m/%d/%Y`, a 12-hour time `%I:%M %p`.
    /// Formats that read the same text differently (`%m/%d/%Y` and `%d/%m/%Y`) do not belong into one list: the first would win.
    /// A format with an offset (`%:z`) gives exact instants.
    pub date_formats: OneOrMany,
    /// IANA zone of dates without an offset, and of the working day; the fallback of rows whose `columns.zone` is empty.
    #[serde(default)]
    pub zone: Option<Zone>,
    /// The ASCII character between fields, a comma unless given.
    #[serde(default = "comma", deserialize_with = "separator")]
    pub delimiter: u8,
    /// Minutes are written `7,5` instead of `7.5`.
    #[serde(default)]
    pub decimal_comma: bool,
    /// How far end − start − break may be from the worked minutes before the row is rejected, 1 unless given.
    #[serde(default = "one")]
    pub tolerance_minutes: u32,
    /// Column → the value, or the values, of the rows to keep; all columns must agree, an empty value means an empty field.
    #[serde(default)]
    pub filter: BTreeMap<String, OneOrMany>,
}

/// The columns of the time log by the meaning that they have for a time entry.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Identifies the entry in its source; repeating an import recognizes entries by it.
    pub external_id: String,
    /// The client that the project is for.
    pub client: String,
    /// The project.
    pub project: String,
    /// The person who worked.
    pub consultant: String,
    /// Start of the work: one column, or several (date, time) that are joined by a space.
    pub started_at: OneOrMany,
    /// End of the work, like `started_at`.
    pub ended_at: OneOrMany,
    /// Whole minutes of the span that were not worked; an empty field means none.
    #[serde(default)]
    pub break_minutes: Option<String>,
    /// Minutes worked, only compared with end − start − break; an empty field is not compared.
    #[serde(default)]
    pub worked_minutes: Option<String>,
    /// What was done.
    #[serde(default)]
    pub note: Option<String>,
    /// Whether the client pays: yes, no, true, false, 1 or 0; an empty field leaves it to the project.
    #[serde(default)]
    pub billable: Option<String>,
    /// IANA zone of the row.
    #[serde(default)]
    pub zone: Option<String>,
}

/// A value that may also be written as a list.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub enum OneOrMany {
    /// A plain string.
    One(String),
    /// A list, in order.
    Many(Vec<String>),
}

impl OneOrMany {
    /// The values in order.
    pub fn values(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// A condition of the command line, `column=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    column: String,
    value: String,
}

impl FromStr for Condition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once('=') {
            Some((column, value)) if !column.trim().is_empty() => Ok(Self {
                column: column.trim().to_owned(),
                value: value.trim().to_owned(),
            }),
            _ => Err(Error::Condition {
                text: text.to_owned(),
            }),
        }
    }
}

impl Mapping {
    /// A built-in mapping by its name, else the file of that path.
    pub fn find(name_or_path: &str) -> Result<Self, Error> {
        match Self::builtin(name_or_path) {
            Some(mapping) => mapping,
            None => Self::load(Path::new(name_or_path)),
        }
    }

    /// The mapping that is part of the program under this name, if there is one.
    pub fn builtin(name: &str) -> Option<Result<Self, Error>> {
        let (_, text) = BUILTIN.iter().find(|(builtin, _)| *builtin == name)?;
        Some(Self::parse(name, text))
    }

    /// Reads a mapping file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::MappingFile {
            path: path.to_owned(),
            builtins: BUILTIN
                .iter()
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
                .join(", "),
            source,
        })?;
        Self::parse(&path.display().to_string(), &text)
    }

    fn parse(name: &str, text: &str) -> Result<Self, Error> {
        let mut mapping: Self = toml::from_str(text).map_err(|source| Error::MappingSyntax {
            name: name.to_owned(),
            source: Box::new(source),
        })?;
        name.clone_into(&mut mapping.name);
        mapping.validate()?;
        Ok(mapping)
    }

    /// Replaces the filter on each column that the conditions name; several values of one column are alternatives.
    pub fn restrict(&mut self, conditions: &[Condition]) {
        for condition in conditions {
            self.filter.remove(&condition.column);
        }
        for condition in conditions {
            let values = self
                .filter
                .entry(condition.column.clone())
                .or_insert(OneOrMany::Many(Vec::new()));
            if let OneOrMany::Many(values) = values {
                values.push(condition.value.clone());
            }
        }
    }

    fn validate(&self) -> Result<(), Error> {
        if self.date_formats.values().is_empty() {
            return Err(self.wrong(
                "date_formats",
                "give at least one format, for example \"%Y-%m-%d %H:%M\"",
            ));
        }
        for format in self.date_formats.values() {
            instant::check_format(format).map_err(|problem| self.wrong("date_formats", problem))?;
        }
        if self.zone.is_none() && self.columns.zone.is_none() {
            return Err(self.wrong("zone", "give the IANA zone of the dates, for example \"UTC\", or the column that holds it as `columns.zone`"));
        }
        for (key, columns) in [
            ("started_at", &self.columns.started_at),
            ("ended_at", &self.columns.ended_at),
        ] {
            if columns.values().is_empty() {
                return Err(self.wrong(&format!("columns.{key}"), "name at least one column"));
            }
        }
        for (column, values) in &self.filter {
            if values.values().is_empty() {
                return Err(self.wrong(
                    &format!("filter.{column}"),
                    "an empty list keeps no row: give a value or remove the key",
                ));
            }
        }
        Ok(())
    }

    fn wrong(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::MappingKey {
            name: self.name.clone(),
            key: key.to_owned(),
            problem: problem.into(),
        }
    }
}

fn comma() -> u8 {
    b','
}

fn separator<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_bytes() {
        [byte] if !matches!(byte, b'"' | b'\r' | b'\n') => Ok(*byte),
        _ => Err(D::Error::custom(
            "`delimiter` must be one ASCII character, for example \",\", \";\" or \"\\t\"",
        )),
    }
}

fn one() -> u32 {
    1
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const COLUMNS: &str = r#"
        [columns]
        external_id = "id"
        client = "client"
        project = "project"
        consultant = "person"
        started_at = "start"
        ended_at = "end"
    "#;

    /// A mapping over the columns `id,client,project,person,start,end`; `keys` replace its own, `columns` are added to its table.
    pub(in super::super) fn mapping(keys: &str, columns: &str) -> Result<Mapping, Error> {
        let own: String = ["date_formats = \"%Y-%m-%d %H:%M\"\n", "zone = \"UTC\"\n"]
            .into_iter()
            .filter(|line| !line.split(' ').next().is_some_and(|key| keys.contains(key)))
            .collect();
        parse(&format!("{own}{keys}{COLUMNS}{columns}"))
    }

    pub(in super::super) fn parse(text: &str) -> Result<Mapping, Error> {
        Mapping::parse("test.toml", text)
    }

    fn refusal(extra: &str, columns: &str) -> String {
        let error = mapping(extra, columns).unwrap_err();
        match &error {
            Error::MappingSyntax { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        }
    }

    #[test]
    fn every_built_in_mapping_is_valid() {
        for (name, _) in BUILTIN {
            Mapping::find(name).unwrap();
        }
    }

    #[test]
    fn keys_that_are_not_given_have_their_documented_defaults() {
        let mapping = mapping("", "").unwrap();
        assert_eq!(
            (
                mapping.delimiter,
                mapping.decimal_comma,
                mapping.tolerance_minutes
            ),
            (b',', false, 1)
        );
        assert!(mapping.filter.is_empty());
    }

    #[test]
    fn a_condition_replaces_the_filter_of_its_column_and_leaves_the_others() {
        let mut mapping =
            mapping("filter = { organization = \"A\", status = \"open\" }", "").unwrap();
        let conditions =
            ["organization=B", "organization = C", "team=x=y"].map(|text| text.parse().unwrap());
        mapping.restrict(&conditions);
        let filter: Vec<_> = mapping
            .filter
            .iter()
            .map(|(column, values)| (column.as_str(), values.values().join("|")))
            .collect();
        assert_eq!(
            filter,
            [
                ("organization", "B|C".to_owned()),
                ("status", "open".to_owned()),
                ("team", "x=y".to_owned())
            ]
        );
    }

    #[test]
    fn a_condition_without_a_column_is_refused() {
        for text in ["organization", "=A", ""] {
            assert!(text.parse::<Condition>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_key_is_named() {
        assert!(refusal("zones = \"UTC\"", "").contains("unknown field `zones`"));
        assert!(refusal("", "projct = \"x\"").contains("unknown field `projct`"));
    }

    #[test]
    fn a_missing_column_is_named() {
        let error =
            parse("zone = \"UTC\"\ndate_formats = \"%Y\"\n[columns]\nclient = \"c\"").unwrap_err();
        assert!(
            matches!(error, Error::MappingSyntax { source, .. } if source.to_string().contains("external_id"))
        );
    }

    #[test]
    fn a_value_that_cannot_work_is_refused_by_its_key() {
        for (extra, key) in [
            ("zone = \"Mars/Olympus\"", "Mars/Olympus"),
            ("date_formats = []", "`date_formats`"),
            ("date_formats = \"%Y-%m-%d\"", "`date_formats`"),
            ("date_formats = \"%Y-%m-%d %I:%M\"", "`date_formats`"),
            ("date_formats = \"%Y-%m-%d %H:%M %L\"", "`date_formats`"),
            ("delimiter = \"→\"", "`delimiter`"),
            ("delimiter = \"\\n\"", "`delimiter`"),
            ("filter = { organization = [] }", "`filter.organization`"),
        ] {
            let refusal = refusal(extra, "");
            assert!(refusal.contains(key), "{extra}: {refusal}");
        }
    }

    #[test]
    fn a_zone_or_its_column_is_required() {
        let text = format!("date_formats = \"%Y-%m-%d %H:%M\"\n{COLUMNS}");
        assert!(
            parse(&text)
                .unwrap_err()
                .to_string()
                .contains("columns.zone")
        );
        parse(&format!("{text}zone = \"tz\"")).unwrap();
    }

    #[test]
    fn a_file_that_is_not_there_is_named_with_the_built_in_mappings() {
        let error = Mapping::find("missing.toml").unwrap_err().to_string();
        assert!(
            error.contains("missing.toml") && error.contains("cesaw"),
            "{error}"
        );
    }
}
