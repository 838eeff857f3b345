//! Entries on the wire: what a caller says, and what it is told.

use kit::change;
use kit::fields::{Fields, date_text, timestamp};
use kit::once::Repeat;
use proto::time_entries::v1 as pb;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};

use crate::change::{Change, MUTABLE};
use crate::error::Error;
use crate::operations::{Filter, Update};
use crate::span::{LONGEST, Span};
use crate::time_entry::{NewTimeEntry, TimeEntry, TimeEntryId};

/// No instant that a request may hold is outside of these.
const EARLIEST: OffsetDateTime = datetime!(1970-01-01 00:00 UTC);
const LATEST: OffsetDateTime = datetime!(2201-01-01 00:00 UTC);

const NOTE_CHARACTERS: usize = 4_000;
const EXTERNAL_ID_CHARACTERS: usize = 128;
const TIME_ZONE_CHARACTERS: usize = 64;

pub(super) fn read_id(text: &str) -> Result<TimeEntryId, kit::Error> {
    let mut fields = Fields::new();
    let id = fields.id("time_entry_id", text);
    fields.finish(id)
}

pub(super) fn read_filter(request: &pb::ListTimeEntriesRequest) -> Result<Filter, kit::Error> {
    let mut fields = Fields::new();
    let filter = Filter {
        project: fields.optional_id("project_id", &request.project_id),
        consultant: fields.optional_id("consultant_id", &request.consultant_id),
        from: fields
            .optional_instant("from_time", request.from_time.as_ref())
            .unwrap_or(EARLIEST),
        until: fields
            .optional_instant("until_time", request.until_time.as_ref())
            .unwrap_or(LATEST),
    };
    fields.finish(Some(filter))
}

pub(super) fn read_create(
    request: &pb::CreateTimeEntryRequest,
) -> Result<(Repeat, NewTimeEntry), Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let entry = request.time_entry.clone().unwrap_or_default();
    let row = pb::ImportRow {
        external_id: entry.external_id,
        project_id: entry.project_id,
        consultant_id: entry.consultant_id,
        started_at: entry.started_at,
        ended_at: entry.ended_at,
        break_minutes: entry.break_minutes,
        time_zone: entry.time_zone,
        billable: entry.billable,
        note: entry.note,
    };
    Ok((repeat, read_new("time_entry.", &row, LONGEST)?))
}

/// Reads time to record, from a request or a row of an import: the fields are the same, the path before them is not.
pub(super) fn read_new(
    path: &str,
    row: &pb::ImportRow,
    longest: Duration,
) -> Result<NewTimeEntry, Error> {
    let mut fields = Fields::new();
    let field = |name: &str| format!("{path}{name}");
    let project_id = fields.id(&field("project_id"), &row.project_id);
    let consultant_id = fields.id(&field("consultant_id"), &row.consultant_id);
    let started_at = fields.instant(&field("started_at"), row.started_at.as_ref());
    let ended_at = fields.instant(&field("ended_at"), row.ended_at.as_ref());
    let time_zone = fields.text(&field("time_zone"), &row.time_zone, TIME_ZONE_CHARACTERS);
    let note = fields.optional_text(&field("note"), &row.note, NOTE_CHARACTERS);
    let external_id = fields.optional_text(
        &field("external_id"),
        &row.external_id,
        EXTERNAL_ID_CHARACTERS,
    );
    let mut refused = None;
    let mut span = None;
    if let (Some(started_at), Some(ended_at), Some(time_zone)) = (started_at, ended_at, time_zone) {
        match Span::new(started_at, ended_at, row.break_minutes, &time_zone, longest) {
            Ok(good) => span = Some(good),
            Err(refusal) => match refusal.field() {
                Some(name) => fields.reject(&field(name), refusal.to_string()),
                None => refused = Some(refusal),
            },
        }
    }
    if let Some(refusal) = refused {
        fields.done()?;
        return Err(refusal.into());
    }
    let new = match (project_id, consultant_id, span) {
        (Some(project_id), Some(consultant_id), Some(span)) => Some(NewTimeEntry {
            project_id,
            consultant_id,
            span,
            billing: row.billable.into(),
            note: note.unwrap_or_default(),
            external_id: external_id.filter(|key| !key.is_empty()),
        }),
        _ => None,
    };
    Ok(fields.finish(new)?)
}

pub(super) fn read_update(
    request: &pb::UpdateTimeEntryRequest,
) -> Result<(Repeat, Update), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let entry = request.time_entry.clone().unwrap_or_default();
    let id = fields.id("time_entry.id", &entry.id);
    let etag = fields.etag(&entry.etag);
    let named = fields.mask(request.update_mask.as_ref(), MUTABLE, |name| match name {
        "project_id" => !entry.project_id.is_empty(),
        "started_at" => entry.started_at.is_some(),
        "ended_at" => entry.ended_at.is_some(),
        "break_minutes" => entry.break_minutes != 0,
        "time_zone" => !entry.time_zone.is_empty(),
        "billable" => entry.billable.is_some(),
        "note" => !entry.note.is_empty(),
        "external_id" => !entry.external_id.is_empty(),
        _ => false,
    });
    let change = read_change(&mut fields, &entry, &named);
    let update = id.map(|id| Update { id, etag, change });
    Ok((repeat, fields.finish(update)?))
}

/// Reads the fields of `names`.
fn read_change(fields: &mut Fields, entry: &pb::TimeEntry, names: &[&str]) -> Change {
    let mut change = Change::default();
    for name in names {
        match *name {
            "project_id" => {
                change.project_id = fields.id("time_entry.project_id", &entry.project_id);
            }
            "started_at" => {
                change.started_at =
                    fields.instant("time_entry.started_at", entry.started_at.as_ref());
            }
            "ended_at" => {
                change.ended_at = fields.instant("time_entry.ended_at", entry.ended_at.as_ref());
            }
            "break_minutes" => change.break_minutes = Some(entry.break_minutes),
            "time_zone" => {
                change.time_zone = fields.text(
                    "time_entry.time_zone",
                    &entry.time_zone,
                    TIME_ZONE_CHARACTERS,
                );
            }
            "billable" => change.billing = Some(entry.billable.into()),
            "note" => {
                change.note = fields.optional_text("time_entry.note", &entry.note, NOTE_CHARACTERS);
            }
            "external_id" => {
                change.external_id = fields.optional_text(
                    "time_entry.external_id",
                    &entry.external_id,
                    EXTERNAL_ID_CHARACTERS,
                );
            }
            _ => {}
        }
    }
    change
}

pub(super) fn read_delete(
    request: &pb::DeleteTimeEntryRequest,
) -> Result<(Repeat, TimeEntryId, Option<i64>), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let id = fields.id("time_entry_id", &request.time_entry_id);
    let etag = fields.etag(&request.etag);
    Ok((repeat, fields.finish(id)?, etag))
}

impl From<TimeEntry> for pb::TimeEntry {
    fn from(entry: TimeEntry) -> Self {
        Self {
            id: entry.id.to_string(),
            project_id: entry.project_id.to_string(),
            consultant_id: entry.consultant_id.to_string(),
            started_at: Some(timestamp(entry.span.started_at)),
            ended_at: Some(timestamp(entry.span.ended_at)),
            break_minutes: entry.span.break_minutes,
            worked_minutes: entry.span.worked_minutes,
            worked_on: date_text(entry.span.worked_on),
            time_zone: entry.span.time_zone,
            billable: Some(entry.billable),
            note: entry.note,
            external_id: entry.external_id.unwrap_or_default(),
            overlap_kept: entry.overlap_kept,
            etag: change::etag(entry.version),
            create_time: Some(timestamp(entry.created_at)),
            update_time: Some(timestamp(entry.updated_at)),
        }
    }
}
