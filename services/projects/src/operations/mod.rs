//! What one can do with clients, projects and assignments, a verb a file.

mod create_client;
mod get_client;
mod list_clients;
mod update_client;

mod archive_project;
mod create_project;
mod get_project;
mod list_projects;
mod lookup_project;
mod update_project;

mod assign_consultant;
mod list_assignments;
mod unassign_consultant;

pub(crate) use archive_project::archive_project;
pub(crate) use assign_consultant::assign_consultant;
pub(crate) use create_client::create_client;
pub(crate) use create_project::{NewProject, create_project};
pub(crate) use get_client::get_client;
pub(crate) use get_project::get_project;
pub(crate) use list_assignments::list_assignments;
pub(crate) use list_clients::list_clients;
pub(crate) use list_projects::list_projects;
pub(crate) use lookup_project::lookup_project;
pub(crate) use unassign_consultant::unassign_consultant;
pub(crate) use update_client::{ClientUpdate, update_client};
pub(crate) use update_project::{ProjectUpdate, update_project};
