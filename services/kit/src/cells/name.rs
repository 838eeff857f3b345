//! Names of cells, and the folder that says which of them there are.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use secrecy::ExposeSecret;

use crate::settings::{DatabaseSettings, SettingsError, read_secret};

const VARIABLE: &str = "CATALYST_CELLS_DIR";
const SHARED: &str = "shared";

/// The name of a cell: of a database that holds all rows of some tenants.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CellName(Option<Arc<str>>);

impl CellName {
    /// The cell of every tenant that is not placed elsewhere.
    pub const SHARED: Self = Self(None);

    /// Reads a name: 1 to 40 lowercase letters, digits and inner hyphens, beginning with a letter.
    pub fn parse(text: &str) -> Option<Self> {
        let is_name = (1..=40).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-')
            && text
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        match text {
            SHARED => Some(Self::SHARED),
            _ => is_name.then(|| Self(Some(text.into()))),
        }
    }

    /// Reads the name in a row or an entry of the directory; those from before there were cells have none.
    pub fn stored(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::SHARED);
        }
        Self::parse(text)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or(SHARED)
    }

    /// Whether it is the shared cell.
    pub fn is_shared(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Display for CellName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for CellName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::stored(&text).ok_or_else(|| format!("{text:?} is no name of a cell"))
    }
}

impl serde::Serialize for CellName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for CellName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::try_from(text).map_err(serde::de::Error::custom)
    }
}

impl DatabaseSettings {
    /// The dedicated cells that the folder names, each with the settings of its database; none without a folder.
    pub fn dedicated(&self) -> Result<BTreeMap<CellName, Self>, SettingsError> {
        let Some(folder) = &self.cells.cells_dir else {
            return Ok(BTreeMap::new());
        };
        let urls = files(VARIABLE, folder)?.into_iter();
        let cells = urls.map(|(cell, url)| {
            let settings = Self {
                database_url: url,
                database_max_connections: self.cells.cell_max_connections,
                ..self.clone()
            };
            (cell, settings)
        });
        Ok(cells.collect())
    }

    /// The dedicated cells that the folder names, without a look into its files.
    pub fn dedicated_names(&self) -> Result<Vec<CellName>, SettingsError> {
        let folder = self.cells.cells_dir.as_deref();
        folder.map_or_else(|| Ok(Vec::new()), |folder| names(VARIABLE, folder))
    }
}

/// A secret for each dedicated cell, from a folder of files that are named as the cells.
pub fn files(
    variable: &'static str,
    folder: &Path,
) -> Result<BTreeMap<CellName, String>, SettingsError> {
    let names = names(variable, folder)?.into_iter();
    let files = names.map(|cell| {
        let secret = read_secret(variable, &folder.join(cell.as_str()))?;
        Ok((cell, secret.expose_secret().to_owned()))
    });
    files.collect()
}

fn names(variable: &'static str, folder: &Path) -> Result<Vec<CellName>, SettingsError> {
    let unreadable = |error: std::io::Error| {
        let problem = format!("cannot read {}: {error}", folder.display());
        SettingsError::new(variable, problem)
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.file_name();
        let file = file.to_string_lossy();
        // A mounted secret keeps its versions in folders with such names.
        if file.starts_with('.') {
            continue;
        }
        let cell = CellName::parse(&file).filter(|cell| !cell.is_shared());
        names.push(cell.ok_or_else(|| {
            let problem = format!(
                "{file:?} in {} is no name of a dedicated cell: use lowercase letters, digits and inner hyphens, and not `shared`",
                folder.display()
            );
            SettingsError::new(variable, problem)
        })?);
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_label_and_the_shared_cell_has_one() {
        for name in ["a", "north-2", &"a".repeat(40)] {
            assert_eq!(CellName::parse(name).unwrap().as_str(), name);
        }
        for other in ["", "-a", "a-", "A", "a_b", "../x", "2a", &"a".repeat(41)] {
            assert_eq!(CellName::parse(other), None, "{other}");
        }
        assert_eq!(CellName::parse("shared"), Some(CellName::SHARED));
        assert_eq!(CellName::stored(""), Some(CellName::SHARED));
        assert_eq!(CellName::stored("A"), None);
    }
}
