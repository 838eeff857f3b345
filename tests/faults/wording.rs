//! The calls of the workload as messages: what is written and read of each noun, and what an answer says.

use prost::Message as _;
use prost_types::FieldMask;
use proto::consultants::v1 as consultants;
use proto::projects::v1 as projects;
use proto::time_entries::v1 as time_entries;
use uuid::Uuid;

use crate::history::Noun;

/// 2020-01-01T00:00:00Z, from where a consultant's hours are counted.
const FIRST_HOUR: i64 = 1_577_836_800;

/// A call, whole: it can be made again as it stands.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) service: &'static str,
    pub(crate) method: &'static str,
    pub(crate) message: Vec<u8>,
}

/// What an answer says of an aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) text: String,
}

/// What a new aggregate belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    /// Of a project.
    pub(crate) client: Uuid,
    /// Of an entry.
    pub(crate) project: Uuid,
    pub(crate) consultant: Uuid,
    /// Of an entry: no two of a consultant may overlap.
    pub(crate) hour: i64,
}

impl Noun {
    /// The service that owns it.
    pub(crate) fn service(self) -> &'static str {
        match self {
            Self::Client | Self::Project => "projects",
            Self::Consultant => "consultants",
            Self::TimeEntry => "time-entries",
        }
    }

    pub(crate) fn create(self, place: Place, code: &str, text: &str, request_id: Uuid) -> Call {
        let (code, text) = (code.to_owned(), text.to_owned());
        let request_id = request_id.to_string();
        let (method, message) = match self {
            Self::Client => {
                let client = projects::Client {
                    code,
                    display_name: text,
                    ..Default::default()
                };
                let request = projects::CreateClientRequest {
                    client: Some(client),
                    request_id,
                };
                (
                    "catalyst.projects.v1.ProjectService/CreateClient",
                    request.encode_to_vec(),
                )
            }
            Self::Project => {
                let project = projects::Project {
                    client_id: place.client.to_string(),
                    code,
                    display_name: text,
                    billable: true,
                    ..Default::default()
                };
                let request = projects::CreateProjectRequest {
                    project: Some(project),
                    request_id,
                };
                (
                    "catalyst.projects.v1.ProjectService/CreateProject",
                    request.encode_to_vec(),
                )
            }
            Self::Consultant => {
                let consultant = consultants::Consultant {
                    code,
                    display_name: text,
                    weekly_capacity_minutes: 2_400,
                    ..Default::default()
                };
                let request = consultants::CreateConsultantRequest {
                    consultant: Some(consultant),
                    request_id,
                };
                (
                    "catalyst.consultants.v1.ConsultantService/CreateConsultant",
                    request.encode_to_vec(),
                )
            }
            Self::TimeEntry => {
                let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
                let start = FIRST_HOUR + place.hour * 3_600;
                let entry = time_entries::TimeEntry {
                    project_id: place.project.to_string(),
                    consultant_id: place.consultant.to_string(),
                    started_at: at(start),
                    ended_at: at(start + 3_600),
                    time_zone: "UTC".to_owned(),
                    note: text,
                    ..Default::default()
                };
                let request = time_entries::CreateTimeEntryRequest {
                    time_entry: Some(entry),
                    request_id,
                };
                (
                    "catalyst.time_entries.v1.TimeEntryService/CreateTimeEntry",
                    request.encode_to_vec(),
                )
            }
        };
        self.call(method, message)
    }

    /// Changes the text. With an etag only the version that the caller has seen is changed.
    pub(crate) fn update(self, id: Uuid, etag: Option<i64>, text: &str, request_id: Uuid) -> Call {
        let (id, text) = (id.to_string(), text.to_owned());
        let request_id = request_id.to_string();
        let etag = etag.map(|version| version.to_string()).unwrap_or_default();
        let mask = |path: &str| {
            Some(FieldMask {
                paths: vec![path.to_owned()],
            })
        };
        let (method, message) = match self {
            Self::Client => {
                let client = projects::Client {
                    id,
                    etag,
                    display_name: text,
                    ..Default::default()
                };
                let request = projects::UpdateClientRequest {
                    client: Some(client),
                    update_mask: mask("display_name"),
                    request_id,
                };
                (
                    "catalyst.projects.v1.ProjectService/UpdateClient",
                    request.encode_to_vec(),
                )
            }
            Self::Project => {
                let project = projects::Project {
                    id,
                    etag,
                    display_name: text,
                    ..Default::default()
                };
                let request = projects::UpdateProjectRequest {
                    project: Some(project),
                    update_mask: mask("display_name"),
                    request_id,
                };
                (
                    "catalyst.projects.v1.ProjectService/UpdateProject",
                    request.encode_to_vec(),
                )
            }
            Self::Consultant => {
                let consultant = consultants::Consultant {
                    id,
                    etag,
                    display_name: text,
                    ..Default::default()
                };
                let request = consultants::UpdateConsultantRequest {
                    consultant: Some(consultant),
                    update_mask: mask("display_name"),
                    request_id,
                };
                (
                    "catalyst.consultants.v1.ConsultantService/UpdateConsultant",
                    request.encode_to_vec(),
                )
            }
            Self::TimeEntry => {
                let entry = time_entries::TimeEntry {
                    id,
                    etag,
                    note: text,
                    ..Default::default()
                };
                let request = time_entries::UpdateTimeEntryRequest {
                    time_entry: Some(entry),
                    update_mask: mask("note"),
                    request_id,
                };
                (
                    "catalyst.time_entries.v1.TimeEntryService/UpdateTimeEntry",
                    request.encode_to_vec(),
                )
            }
        };
        self.call(method, message)
    }

    /// Reads one.
    pub(crate) fn get(self, id: Uuid) -> Call {
        let id = id.to_string();
        let (method, message) = match self {
            Self::Client => (
                "catalyst.projects.v1.ProjectService/GetClient",
                projects::GetClientRequest { client_id: id }.encode_to_vec(),
            ),
            Self::Project => (
                "catalyst.projects.v1.ProjectService/GetProject",
                projects::GetProjectRequest { project_id: id }.encode_to_vec(),
            ),
            Self::Consultant => (
                "catalyst.consultants.v1.ConsultantService/GetConsultant",
                consultants::GetConsultantRequest { consultant_id: id }.encode_to_vec(),
            ),
            Self::TimeEntry => (
                "catalyst.time_entries.v1.TimeEntryService/GetTimeEntry",
                time_entries::GetTimeEntryRequest { time_entry_id: id }.encode_to_vec(),
            ),
        };
        self.call(method, message)
    }

    /// Reads many.
    pub(crate) fn list(self) -> Call {
        let method = match self {
            Self::Client => "catalyst.projects.v1.ProjectService/ListClients",
            Self::Project => "catalyst.projects.v1.ProjectService/ListProjects",
            Self::Consultant => "catalyst.consultants.v1.ConsultantService/ListConsultants",
            Self::TimeEntry => "catalyst.time_entries.v1.TimeEntryService/ListTimeEntries",
        };
        // All four lists have their size in the first field.
        let message = projects::ListClientsRequest {
            page_size: 50,
            ..Default::default()
        };
        self.call(method, message.encode_to_vec())
    }

    fn call(self, method: &'static str, message: Vec<u8>) -> Call {
        Call {
            service: self.service(),
            method,
            message,
        }
    }

    /// What an answer to `create`, `update` or `get` says.
    pub(crate) fn said(self, answer: &[u8]) -> Option<Said> {
        // In all these answers the first field is the aggregate.
        let (id, etag, text) = match self {
            Self::Client => {
                let it = projects::GetClientResponse::decode(answer).ok()?.client?;
                (it.id, it.etag, it.display_name)
            }
            Self::Project => {
                let it = projects::GetProjectResponse::decode(answer).ok()?.project?;
                (it.id, it.etag, it.display_name)
            }
            Self::Consultant => {
                let it = consultants::GetConsultantResponse::decode(answer)
                    .ok()?
                    .consultant?;
                (it.id, it.etag, it.display_name)
            }
            Self::TimeEntry => {
                let it = time_entries::GetTimeEntryResponse::decode(answer)
                    .ok()?
                    .time_entry?;
                (it.id, it.etag, it.note)
            }
        };
        Some(Said {
            id: id.parse().ok()?,
            version: etag.parse().ok()?,
            text,
        })
    }
}

/// Removes an entry.
pub(crate) fn delete_entry(id: Uuid, request_id: Uuid) -> Call {
    let request = time_entries::DeleteTimeEntryRequest {
        time_entry_id: id.to_string(),
        etag: String::new(),
        request_id: request_id.to_string(),
    };
    let method = "catalyst.time_entries.v1.TimeEntryService/DeleteTimeEntry";
    Noun::TimeEntry.call(method, request.encode_to_vec())
}
