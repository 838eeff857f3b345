//! The file of alert rules and sinks: what may stand in it, and what is wrong with it, line by line. Pure.
//!
//! Invariant: a set that this returns is whole: every type exists, every route leads to a sink, and severe events meet a
//! rule.

use std::fmt;
use std::sync::Arc;

use proto::common::v1::Severity;
use serde::Deserialize;
use time::Duration;
use toml::Spanned;

use super::{ActorType, GroupBy, HIGH_SEVERITY, Match, Rule, RuleSet, SinkKind, SinkSpec, names};
use crate::record::Category;

/// The rules that are built in, with every field explained.
pub const DEFAULT: &str = include_str!("default.toml");

/// More would make one row of a counter large.
const MAX_THRESHOLD: i64 = 1_000;

/// Everything that is wrong with a file, one problem a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BadRules(Vec<Problem>);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    line: usize,
    what: String,
}

impl fmt::Display for BadRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}line {}: {}", problem.line, problem.what)?;
        }
        Ok(())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
    #[serde(default)]
    sink: Vec<Spanned<RawSink>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: Spanned<String>,
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
struct RawMatch {
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
struct RawSink {
    name: Spanned<String>,
    r#type: Spanned<String>,
    url: Spanned<String>,
    secret_file: Option<std::path::PathBuf>,
    token_file: Option<std::path::PathBuf>,
    #[serde(default)]
    names_offender: bool,
}

/// The built-in rules without any sink.
pub fn built_in() -> RuleSet {
    // A test holds that it parses.
    parse(DEFAULT, &[]).unwrap_or(RuleSet {
        rules: Vec::new(),
        sinks: Vec::new(),
    })
}

/// Reads a file. `sinks` are those that settings name, which its rules may route to as well.
pub fn parse(text: &str, sinks: &[SinkSpec]) -> Result<RuleSet, BadRules> {
    let raw: RawFile = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let what = format!("{}{}", section_at(text, start), error.message());
        BadRules(vec![Problem {
            line: line_of(text, start),
            what,
        }])
    })?;
    let mut reader = Reader {
        text,
        place: String::new(),
        problems: Vec::new(),
    };
    let mut all_sinks = sinks.to_vec();
    for sink in &raw.sink {
        reader.place = format!("sink `{}`", sink.get_ref().name.get_ref());
        let sink = reader.sink(sink, &all_sinks);
        all_sinks.push(sink);
    }
    let mut rules: Vec<Arc<Rule>> = Vec::with_capacity(raw.rule.len() + 1);
    for rule in &raw.rule {
        reader.place = format!("rule `{}`", rule.get_ref().name.get_ref());
        let rule = reader.rule(rule, &rules, &all_sinks);
        rules.push(Arc::new(rule));
    }
    if !reader.problems.is_empty() {
        reader.problems.sort_by_key(|problem| problem.line);
        return Err(BadRules(reader.problems));
    }
    if !rules.iter().any(|rule| rule.name == HIGH_SEVERITY) && text != DEFAULT {
        let last = built_in().rules.pop();
        rules.extend(last);
    }
    Ok(RuleSet {
        rules,
        sinks: all_sinks,
    })
}

/// Reads the parts of a file and notes all that is wrong.
struct Reader<'a> {
    text: &'a str,
    place: String,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn reject(&mut self, at: &std::ops::Range<usize>, field: &str, problem: &str) {
        let line = line_of(self.text, at.start);
        let what = format!("{}: {field}: {problem}", self.place);
        self.problems.push(Problem { line, what });
    }

    fn rule(&mut self, raw: &Spanned<RawRule>, before: &[Arc<Rule>], sinks: &[SinkSpec]) -> Rule {
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

    fn sink(&mut self, raw: &Spanned<RawSink>, before: &[SinkSpec]) -> SinkSpec {
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

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.bytes().filter(|byte| *byte == b'\n').count() + 1
}

/// Names the rule or the sink around an offset of a text that could not be read, as far as its lines tell.
fn section_at(text: &str, offset: usize) -> String {
    let line = line_of(text, offset);
    let is_head = |text: &&str| text.trim_start().starts_with("[[");
    let lines: Vec<&str> = text.lines().collect();
    let above = lines.get(..line.min(lines.len())).unwrap_or_default();
    let Some(start) = above.iter().rposition(|line| is_head(&line)) else {
        return String::new();
    };
    let section = lines.get(start + 1..).unwrap_or_default();
    let mut own = section.iter().take_while(|line| !is_head(line));
    let name = own.find_map(|line| line.trim_start().strip_prefix("name")?.split('"').nth(1));
    let kind = above.get(start).map_or("", |head| {
        head.trim().trim_matches(|c| c == '[' || c == ']')
    });
    match name {
        Some(name) => format!("{kind} `{name}`: "),
        None => format!("a {kind} without a name: "),
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

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = r#"[[rule]]
name = "denials"
title = "t"
description = "d"
severity = "LOW"
match = { types = ["PermissionDenied"] }
"#;

    fn problems(text: &str) -> String {
        parse(text, &[]).expect_err("not valid").to_string()
    }

    fn with(line: &str) -> String {
        format!("{RULE}{line}\n")
    }

    #[test]
    fn the_built_in_rules_are_valid_and_say_what_they_do_not_leave_out() {
        let set = parse(DEFAULT, &[]).unwrap();
        assert_eq!(set, built_in());
        assert_eq!(set.rules.last().unwrap().name, HIGH_SEVERITY);
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let set = parse(RULE, &[]).unwrap();
        let rule = &set.rules[0];
        assert_eq!(
            (rule.threshold, rule.group_by.as_slice()),
            (1, [GroupBy::Actor].as_slice())
        );
        assert_eq!(
            (rule.repeat_within, &rule.routes),
            (Duration::minutes(5), &None)
        );
    }

    #[test]
    fn severe_events_meet_a_rule_whatever_the_file_says() {
        let names = |text: &str| {
            let set = parse(text, &[]).unwrap();
            set.rules
                .iter()
                .map(|it| it.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(RULE), ["denials", HIGH_SEVERITY]);
        assert_eq!(names(""), [HIGH_SEVERITY]);
    }

    #[test]
    fn each_problem_names_its_line_its_rule_its_field_and_the_remedy() {
        for (line, problem) in [
            (
                "threshold = 0",
                "line 7: rule `denials`: threshold: must be 1 to 1000",
            ),
            (
                "threshold = 5",
                "line 1: rule `denials`: window: is required with a threshold above 1",
            ),
            (
                "window = \"5 minutes\"",
                "line 7: rule `denials`: window: must be a whole number with its unit",
            ),
            (
                "window = \"25h\"",
                "line 7: rule `denials`: window: must be",
            ),
            (
                "group_by = [\"acter\"]",
                "line 7: rule `denials`: group_by: must be of \"actor\"",
            ),
            (
                "routes = [\"oncall\"]",
                "line 7: rule `denials`: routes: no sink is named `oncall`: there is none; add",
            ),
            (
                "thresold = 5",
                "line 7: rule `denials`: unknown field `thresold`",
            ),
            ("threshold = \"5\"", "line 7: rule `denials`: invalid type"),
            ("threshold = ", "line 7: rule `denials`: "),
        ] {
            let found = problems(&with(line));
            assert!(found.contains(problem), "{line}: {found}");
        }
        for (from, to, problem) in [
            (
                "PermissionDenied",
                "PermissionDenid",
                "line 6: rule `denials`: match.types: no event is named `PermissionDenid`",
            ),
            (
                "PermissionDenied",
                "catalyst.audit.v1.AlertRaised",
                "match.types: no event",
            ),
            (
                "\"LOW\"",
                "\"low\"",
                "line 5: rule `denials`: severity: must be \"LOW\"",
            ),
            (
                "denials",
                "Denials!",
                "line 2: rule `Denials!`: name: must be lowercase",
            ),
            (
                "\"t\"",
                "\"\"",
                "line 3: rule `denials`: title: must have 1 to 200",
            ),
            (
                "{ types = [\"PermissionDenied\"] }",
                "{}",
                "line 6: rule `denials`: match: chooses nothing",
            ),
            (
                "] }",
                "], reasons = [\"EXPIRED\"] }",
                "match.reasons: needs `types` whose events give a reason",
            ),
            (
                "severity = \"LOW\"\n",
                "",
                "rule `denials`: missing field `severity`",
            ),
        ] {
            let found = problems(&RULE.replacen(from, to, 1));
            assert!(found.contains(problem), "{to}: {found}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once_in_the_order_of_their_lines() {
        let text = format!("{RULE}threshold = 0\n{RULE}routes = [\"x\"]\n");
        let found = problems(&text);
        let lines: Vec<&str> = found
            .lines()
            .filter_map(|it| it.split(':').next())
            .collect();
        assert_eq!(lines, ["line 7", "line 9", "line 14"], "{found}");
    }

    #[test]
    fn a_sink_names_where_its_secret_is_and_never_the_secret() {
        let webhook = "[[sink]]\nname = \"oncall\"\ntype = \"webhook\"\nurl = \"https://x\"\n";
        assert!(problems(webhook).contains("line 1: sink `oncall`: secret_file: is required"));
        let right = format!(
            "{webhook}secret_file = \"/s\"\n{}",
            with("routes = [\"oncall\"]")
        );
        let set = parse(&right, &[]).unwrap();
        assert_eq!(set.routes_of(&set.rules[0]).len(), 1);
        let inline = format!("{webhook}secret = \"whsec_x\"\n");
        assert!(problems(&inline).contains("unknown field `secret`"));
        let again = parse(&right, &set.sinks).expect_err("twice").to_string();
        assert!(
            again.contains("sink `oncall`: name: is that of another sink"),
            "{again}"
        );
    }
}
