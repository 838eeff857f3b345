//! Every service of the deployment, by name: the one list that all commands share.

use std::future::ready;

use kit::host::{Build, Definition, StartError};
use kit::settings::SettingsError;

/// The definitions of all services, in the order in which they are migrated and started.
pub const ALL: [Definition; 5] = [
    tenants::DEFINITION,
    consultants::DEFINITION,
    projects::DEFINITION,
    time_entries::DEFINITION,
    audit::DEFINITION,
];

/// Those whose rows are in the cells of their tenants.
pub fn in_cells() -> impl Iterator<Item = Definition> {
    ALL.into_iter().filter(|definition| definition.in_cells)
}

/// Settings that belong to single services.
#[derive(Clone, Debug, Default)]
pub struct ServiceSettings {
    /// Of projects.
    pub projects: projects::Settings,
    /// Of time-entries.
    pub time_entries: time_entries::Settings,
    /// Of audit.
    pub audit: audit::Settings,
    /// Of audit's checkpoints.
    pub checkpoints: audit::CheckpointSettings,
}

impl ServiceSettings {
    /// Reads them from the environment.
    pub fn from_environment() -> Result<Self, SettingsError> {
        Ok(Self {
            projects: kit::settings::from_environment()?,
            time_entries: kit::settings::from_environment()?,
            audit: kit::settings::from_environment()?,
            checkpoints: kit::settings::from_environment()?,
        })
    }
}

/// The definition and the builder of a service.
pub fn service(name: &str, settings: &ServiceSettings) -> Option<(Definition, Build)> {
    let settings = settings.clone();
    let build: Build = match name {
        "tenants" => wire(tenants::build),
        "consultants" => wire(consultants::build),
        "projects" => wire(move |kit| projects::build(&settings.projects, kit)),
        "time-entries" => wire(move |kit| time_entries::build(&settings.time_entries, kit)),
        "audit" => Box::new(move |kit| {
            Box::pin(async move { audit::build(&settings.audit, &settings.checkpoints, kit).await })
        }),
        _ => return None,
    };
    let definition = ALL.into_iter().find(|definition| definition.name == name)?;
    Some((definition, build))
}

/// All services with their builders.
pub fn all(settings: &ServiceSettings) -> Vec<(Definition, Build)> {
    ALL.iter()
        .filter_map(|definition| service(definition.name, settings))
        .collect()
}

fn wire(
    build: impl FnOnce(kit::Kit) -> Result<kit::host::App, StartError> + Send + 'static,
) -> Build {
    Box::new(move |kit| Box::pin(ready(build(kit))))
}
