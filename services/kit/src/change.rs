//! Changes to what exists: which fields an update names, and whether the caller saw the current version.

use crate::Error;
use crate::fields::Fields;

/// Checks a caller's etag against the current version. An absent etag agrees with every version.
pub fn check_etag(etag: Option<i64>, version: i64) -> Result<(), Error> {
    match etag {
        Some(seen) if seen != version => Err(Error::EtagStale),
        _ => Ok(()),
    }
}

/// The etag of a version.
pub fn etag(version: i64) -> String {
    version.to_string()
}

impl Fields {
    /// An optional etag as [`etag`] writes it. One that never was an etag is stale, not malformed:
    /// the caller's remedy is the same.
    pub fn etag(&mut self, text: &str) -> Option<i64> {
        if text.is_empty() {
            None
        } else {
            Some(text.parse().unwrap_or(-1))
        }
    }

    /// The fields that an update changes: those of the mask, all for `*`, and without a mask those that are set.
    pub fn mask<'a>(
        &mut self,
        mask: Option<&prost_types::FieldMask>,
        allowed: &[&'a str],
        is_set: impl Fn(&str) -> bool,
    ) -> Vec<&'a str> {
        let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
        if paths.is_empty() {
            let chosen: Vec<&str> = allowed
                .iter()
                .copied()
                .filter(|name| is_set(name))
                .collect();
            if chosen.is_empty() {
                self.reject(
                    "update_mask",
                    format!("names no field: name some of {}", allowed.join(", ")),
                );
            }
            return chosen;
        }
        if paths.iter().any(|path| path == "*") {
            return allowed.to_vec();
        }
        let mut chosen = Vec::new();
        for path in paths {
            match allowed.iter().find(|name| *name == path) {
                Some(name) if chosen.contains(name) => {}
                Some(name) => chosen.push(*name),
                None => self.reject(
                    "update_mask",
                    format!("must name only {}", allowed.join(", ")),
                ),
            }
        }
        chosen
    }
}
