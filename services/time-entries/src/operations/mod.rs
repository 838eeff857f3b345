//! What one can do with time entries, a verb a file.

mod create_time_entry;
mod get_time_entry;
mod list_time_entries;
mod update_time_entry;
mod delete_time_entry;
mod import_time_entries;
mod summarize_time_entries;

pub(crate) use create_time_entry::create_time_entry;
pub(crate) use delete_time_entry::delete_time_entry;
pub(crate) use get_time_entry::get_time_entry;
pub(crate) use import_time_entries::{Imported, import_time_entries};
pub(crate) use list_time_entries::{Filter, list_time_entries};
pub(crate) use summarize_time_entries::summarize_time_entries;
pub(crate) use update_time_entry::{Update, update_time_entry};
