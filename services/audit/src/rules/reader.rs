//! The parts of a file of rules: each field as it may be written, and what is wrong with it. Pure.

use std::sync::Arc;

use proto::common::v1::Severity;
use serde::Deserialize;
use time::Duration;
use toml::Spanned;

use super::file::{Problem, line_of};
use super::{ActorType, GroupBy, Match, Rule, SinkKind, SinkSpec, names};
use crate::record::Category;

/// More would make one row of a counter large.
const MAX_THRESHOLD: i64 = 1_000;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFile {
    #[serde(default)]
    pub(super) rule: Vec<Spanned<RawRule>>,
    #[serde(default)]
    pub(super) sink: Vec<Spanned<RawSink>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    pub(super) name: Spanned<String>,
    title: Spanned<String>,
    description: Spanned<String>,
    severity: Spanned<String>,
    r#match: Spanned<RawMatch>,
    #[serde(default)]
    fallback: bool,
    threshold: Option<Spanned<i64>>,
    window: Option<Spanned<String>>,
    group_by: Option<Vec<Spanned<String>>>,
    repeat_within: Option<Spanned<String>>,
    routes: Option<Vec<Spanned<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMatch {
    #[serde(default)]
    types: Vec<Spanned<String>>,
    min_severity: Option<Spanned<String>>,
    category: Option<Spanned<String>>,
    actor_type: Option<Spanned<String>>,
    #[serde(default)]
    resource_kinds: Vec<Spanned<String>>,
    #[serde(default)]
    reasons: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSink {
    pub(super) name: Spanned<String>,
    r#type: Spanned<String>,
    url: Spanned<String>,
    secret_file: Option<std::path::PathBuf>,
    token_file: Option<std::path::PathBuf>,
    #[serde(default)]
    names_offender: bool,
}

/// Reads the parts of a file and notes all that is wrong.
pub(super) struct Reader<'a> {
    text: &'a str,
    /// The rule or the sink that is read.
    pub(super) place: String,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            place: String::new(),
            problems: Vec::new(),
        }
    }

    fn reject(&mut self, at: &std::ops::Range<usize>, field: &str, problem: &str) {
        let line = line_of(self.text, at.start);
        let what = format!("{}: {field}: {problem}", self.place);
        self.problems.push(Problem { line, what });
    }

    pub(super) fn rule(
        &mut self,
        raw: &Spanned<RawRule>,
        before: &[Arc<Rule>],
        sinks: &[SinkSpec],
    ) -> Rule {
        let span = raw.span();
        let raw = raw.get_ref();
        let name = self.name(&raw.name);
        if before.iter().any(|rule| rule.name == name) {
            self.reject(
                &raw.name.span(),
                "name",
                "is that of a rule above: choose another",
            );
        }
        for (field, text, max) in [
            ("title", &raw.title, 200),
            ("description", &raw.description, 2_000),
        ] {
            if text.get_ref().trim().is_empty() || text.get_ref().chars().count() > max {
                let problem = format!("must have 1 to {max} characters");
                self.reject(&text.span(), field, &problem);
            }
        }
        let threshold = raw.threshold.as_ref().map_or(1, |it| *it.get_ref());
        if !(1..=MAX_THRESHOLD).contains(&threshold) {
            let at = raw.threshold.as_ref().map_or(span.clone(), Spanned::span);
            self.reject(&at, "threshold", &format!("must be 1 to {MAX_THRESHOLD}"));
        }
        if threshold > 1 && raw.window.is_none() {
            let problem = "is required with a threshold above 1: write it as \"1m\"";
            self.reject(&span, "window", problem);
        }
        if raw.fallback && threshold > 1 {
            let problem = "must be 1 in a rule with `fallback`, which takes severe events at once";
            self.reject(&span, "threshold", problem);
        }
        let window = self.duration("window", raw.window.as_ref(), Duration::MINUTE);
        let repeat_within = self.duration(
            "repeat_within",
            raw.repeat_within.as_ref(),
            Duration::minutes(5),
        );
        Rule {
            name,
            title: raw.title.get_ref().trim().to_owned(),
            description: raw.description.get_ref().trim().to_owned(),
            severity: self.severity("severity", &raw.severity),
            matches: self.matches(&raw.r#match),
            fallback: raw.fallback,
            threshold,
            window,
            group_by: self.group_by(raw.group_by.as_deref()),
            repeat_within,
            routes: self.routes(raw.routes.as_deref(), sinks),
        }
    }

    fn name(&mut self, raw: &Spanned<String>) -> String {
        let name = raw.get_ref();
        let is_word = |word: &str| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        if name.len() > 64 || !name.split('-').all(is_word) {
            let problem =
                "must be lowercase words and digits joined by hyphens, at most 64 characters";
            self.reject(&raw.span(), "name", problem);
        }
        name.clone()
    }

    fn severity(&mut self, field: &str, raw: &Spanned<String>) -> Severity {
        match raw.get_ref().as_str() {
            "LOW" => Severity::Low,
            "MEDIUM" => Severity::Medium,
            "HIGH" => Severity::High,
            _ => {
                self.reject(
                    &raw.span(),
                    field,
                    "must be \"LOW\", \"MEDIUM\" or \"HIGH\"",
                );
                Severity::High
            }
        }
    }

    fn duration(
        &mut self,
        field: &str,
        raw: Option<&Spanned<String>>,
        absent: Duration,
    ) -> Duration {
        let Some(raw) = raw else { return absent };
        let read = read_duration(raw.get_ref())
            .filter(|it| (Duration::SECOND..=Duration::DAY).contains(it));
        read.unwrap_or_else(|| {
            let problem =
                "must be a whole number with its unit, \"1s\" to \"24h\": \"30s\", \"10m\"";
            self.reject(&raw.span(), field, problem);
            absent
        })
    }

    fn group_by(&mut self, raw: Option<&[Spanned<String>]>) -> Vec<GroupBy> {
        let Some(raw) = raw else {
            return vec![GroupBy::Actor];
        };
        let mut groups = Vec::with_capacity(raw.len());
        for name in raw {
            groups.push(match name.get_ref().as_str() {
                "actor" => GroupBy::Actor,
                "tenant" => GroupBy::Tenant,
                "source_address" => GroupBy::SourceAddress,
                "resource_kind" => GroupBy::ResourceKind,
                "method" => GroupBy::Method,
                _ => {
                    let problem = "must be of \"actor\", \"tenant\", \"source_address\", \"resource_kind\" and \"method\"";
                    self.reject(&name.span(), "group_by", problem);
                    continue;
                }
            });
        }
        groups
    }

    fn routes(
        &mut self,
        raw: Option<&[Spanned<String>]>,
        sinks: &[SinkSpec],
    ) -> Option<Vec<String>> {
        let raw = raw?;
        for route in raw {
            if !sinks.iter().any(|sink| sink.name == *route.get_ref()) {
                let known: Vec<&str> = sinks.iter().map(|sink| sink.name.as_str()).collect();
                let known = if known.is_empty() {
                    "there is none".to_owned()
                } else {
                    format!("there is {}", known.join(", "))
                };
                let problem = format!(
                    "no sink is named `{}`: {known}; add a [[sink]], or the setting that makes it",
                    route.get_ref()
                );
                self.reject(&route.span(), "routes", &problem);
            }
        }
        Some(raw.iter().map(|route| route.get_ref().clone()).collect())
    }

    fn matches(&mut self, raw: &Spanned<RawMatch>) -> Match {
        let span = raw.span();
        let raw = raw.get_ref();
        let mut types = Vec::with_capacity(raw.types.len());
        for name in &raw.types {
            match names::event(name.get_ref()) {
                Some(full_name) => types.push(full_name),
                None => self.reject(
                    &name.span(),
                    "match.types",
                    &format!(
                        "no event is named `{}`: the contract's README lists them",
                        name.get_ref()
                    ),
                ),
            }
        }
        for reason in &raw.reasons {
            let known = names::reasons(&types);
            if !known.contains(reason.get_ref()) {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let problem = if known.is_empty() {
                    "needs `types` whose events give a reason, such as [\"AuthenticationFailed\"]"
                        .to_owned()
                } else {
                    format!("must be of {}", known.join(", "))
                };
                self.reject(&reason.span(), "match.reasons", &problem);
            }
        }
        let category = raw
            .category
            .as_ref()
            .and_then(|it| match it.get_ref().as_str() {
                "security" => Some(Category::Security),
                "domain" => Some(Category::Domain),
                _ => {
                    self.reject(
                        &it.span(),
                        "match.category",
                        "must be \"security\" or \"domain\"",
                    );
                    None
                }
            });
        let actor_type = raw
            .actor_type
            .as_ref()
            .and_then(|it| match it.get_ref().as_str() {
                "user" => Some(ActorType::User),
                "service" => Some(ActorType::Service),
                "none" => Some(ActorType::None),
                _ => {
                    let problem = "must be \"user\", \"service\" or \"none\"";
                    self.reject(&it.span(), "match.actor_type", problem);
                    None
                }
            });
        let list = |raw: &[Spanned<String>]| raw.iter().map(|it| it.get_ref().clone()).collect();
        let matches = Match {
            types,
            min_severity: raw
                .min_severity
                .as_ref()
                .map(|it| self.severity("match.min_severity", it)),
            category,
            actor_type,
            resource_kinds: list(&raw.resource_kinds),
            reasons: list(&raw.reasons),
        };
        if matches == Match::default() && raw.types.is_empty() && raw.category.is_none() {
            let problem = "chooses nothing: give `types`, `min_severity` or another condition";
            self.reject(&span, "match", problem);
        }
        matches
    }

    pub(super) fn sink(&mut self, raw: &Spanned<RawSink>, before: &[SinkSpec]) -> SinkSpec {
        let span = raw.span();
        let raw = raw.get_ref();
        let name = self.name(&raw.name);
        if before.iter().any(|sink| sink.name == name) {
            let problem = "is that of another sink, here or in the settings: choose another";
            self.reject(&raw.name.span(), "name", problem);
        }
        let url = raw.url.get_ref();
        if !(url.starts_with("https://") || url.starts_with("http://")) {
            self.reject(&raw.url.span(), "url", "must be https://HOST/PATH");
        }
        let kind = match (raw.r#type.get_ref().as_str(), &raw.secret_file) {
            ("webhook", Some(secret_file)) => SinkKind::Webhook {
                secret_file: secret_file.clone(),
            },
            ("webhook", None) => {
                let problem = "is required: a webhook's deliveries are signed";
                self.reject(&span, "secret_file", problem);
                SinkKind::Alertmanager { token_file: None }
            }
            ("alertmanager", None) => SinkKind::Alertmanager {
                token_file: raw.token_file.clone(),
            },
            ("alertmanager", Some(_)) => {
                let problem = "is of webhooks: an Alertmanager takes `token_file`";
                self.reject(&span, "secret_file", problem);
                SinkKind::Alertmanager { token_file: None }
            }
            _ => {
                let problem = "must be \"webhook\" or \"alertmanager\"";
                self.reject(&raw.r#type.span(), "type", problem);
                SinkKind::Alertmanager { token_file: None }
            }
        };
        if raw.r#type.get_ref() == "webhook" && raw.token_file.is_some() {
            let problem = "is of Alertmanagers: a webhook takes `secret_file`";
            self.reject(&span, "token_file", problem);
        }
        SinkSpec {
            name,
            url: url.clone(),
            kind,
            names_offender: raw.names_offender,
        }
    }
}

/// `30s`, `10m`, `2h`.
fn read_duration(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: i64 = digits.parse().ok().filter(|amount| *amount <= 100_000)?;
    match unit {
        "s" => Some(Duration::seconds(amount)),
        "m" => Some(Duration::minutes(amount)),
        "h" => Some(Duration::hours(amount)),
        _ => None,
    }
}
