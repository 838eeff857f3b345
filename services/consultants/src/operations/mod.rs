//! What one can do with consultants, a verb a file.

mod create_consultant;
mod deactivate_consultant;
mod get_consultant;
mod list_consultants;
mod lookup_consultant;
mod update_consultant;

pub(crate) use create_consultant::create_consultant;
pub(crate) use deactivate_consultant::deactivate_consultant;
pub(crate) use get_consultant::get_consultant;
pub(crate) use list_consultants::list_consultants;
pub(crate) use lookup_consultant::lookup_consultant;
pub(crate) use update_consultant::{Update, update_consultant};
