//! Names of cells, and the folder that says which of them there are.
//!
//! Invariant: a file that cannot be used costs its own cell alone, and is named.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use secrecy::ExposeSecret;

use crate::settings::{DatabaseSettings, SettingsError, read_secret};

const VARIABLE: &str = "CATALYST_CELLS_DIR";
const SHARED: &str = "shared";

/// The name of a cell: of a database that holds all rows of some tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

/// A database is not the cell that it is used as.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the database of the cell {expected} {}", .found.as_ref().map_or_else(
    || "does not say which cell it is: run `catalyst migrate`".to_owned(),
    |found| format!("is the cell {found}: check which setting or file holds which URL")
))]
pub struct OtherCell {
    /// Which it ought to be.
    pub expected: CellName,
    /// Which it says it is.
    pub found: Option<CellName>,
}

impl OtherCell {
    /// Why a connection was not opened, if this is why.
    pub(crate) fn of(error: &sqlx::Error) -> Option<&Self> {
        match error {
            sqlx::Error::Configuration(cause) => cause.downcast_ref(),
            _ => None,
        }
    }
}

/// A folder with a file for each dedicated cell, which goes by its name: what was read of each, or what is wrong with it.
#[derive(Clone, Debug)]
pub struct CellFolder<T> {
    /// The cells whose files can be used.
    pub cells: BTreeMap<CellName, T>,
    /// What is wrong with the others, by the name of the file.
    pub faults: BTreeMap<String, SettingsError>,
}

impl<T> Default for CellFolder<T> {
    fn default() -> Self {
        Self {
            cells: BTreeMap::new(),
            faults: BTreeMap::new(),
        }
    }
}

impl<T> CellFolder<T> {
    /// Reads on: what cannot be used is a fault of its file.
    pub fn and_then<U>(
        self,
        variable: &'static str,
        read: impl Fn(&CellName, T) -> Result<U, SettingsError>,
    ) -> CellFolder<U> {
        let mut folder = CellFolder {
            cells: BTreeMap::new(),
            faults: self.faults,
        };
        for (cell, it) in self.cells {
            match read(&cell, it) {
                Ok(it) => {
                    folder.cells.insert(cell, it);
                }
                Err(error) => {
                    let problem = format!("the file {cell}: {}", error.problem);
                    let error = SettingsError::new(variable, problem);
                    folder.faults.insert(cell.to_string(), error);
                }
            }
        }
        folder
    }

    /// All cells, for whoever cannot do without one; the first fault otherwise.
    pub fn whole(self) -> Result<BTreeMap<CellName, T>, SettingsError> {
        let fault = self.faults.into_values().next();
        fault.map_or(Ok(self.cells), Err)
    }
}

impl CellFolder<String> {
    /// The secret in each file.
    pub fn read(variable: &'static str, folder: &Path) -> Result<Self, SettingsError> {
        let names = names(variable, folder)?;
        Ok(names.and_then(variable, |cell, ()| {
            let secret = read_secret(variable, &folder.join(cell.as_str()))?;
            Ok(secret.expose_secret().to_owned())
        }))
    }
}

impl DatabaseSettings {
    /// The dedicated cells that the folder names, each with the settings of its database; none without a folder.
    pub fn dedicated(&self) -> Result<CellFolder<Self>, SettingsError> {
        let Some(folder) = &self.cells.cells_dir else {
            return Ok(CellFolder::default());
        };
        let urls = CellFolder::read(VARIABLE, folder)?;
        Ok(urls.and_then(VARIABLE, |cell, url| {
            self.plaintext.check_database_url(VARIABLE, &url)?;
            Ok(Self {
                database_url: url,
                database_max_connections: self.cells.cell_max_connections,
                cell: cell.clone(),
                ..self.clone()
            })
        }))
    }

    /// The dedicated cells that the folder names, without a look into its files.
    pub fn dedicated_names(&self) -> Result<Vec<CellName>, SettingsError> {
        let folder = self.cells.cells_dir.as_deref();
        let names = folder.map(|folder| names(VARIABLE, folder)).transpose()?;
        Ok(names.unwrap_or_default().cells.into_keys().collect())
    }
}

fn names(variable: &'static str, folder: &Path) -> Result<CellFolder<()>, SettingsError> {
    let unreadable = |error: std::io::Error| {
        let problem = format!("cannot read {}: {error}", folder.display());
        SettingsError::new(variable, problem)
    };
    let mut names = CellFolder::default();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.file_name();
        let file = file.to_string_lossy();
        // A mounted secret keeps its versions in folders with such names.
        if file.starts_with('.') {
            continue;
        }
        if let Some(cell) = CellName::parse(&file).filter(|cell| !cell.is_shared()) {
            names.cells.insert(cell, ());
            continue;
        }
        let problem = format!(
            "{file:?} in {} is no name of a dedicated cell: use lowercase letters, digits and inner hyphens, and not `shared`",
            folder.display()
        );
        let fault = SettingsError::new(variable, problem);
        names.faults.insert(file.into_owned(), fault);
    }
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
