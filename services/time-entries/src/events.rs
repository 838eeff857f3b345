//! From the model to published events. Notes are not published.

use kit::Ctx;
use kit::events::Emitted;
use kit::fields::date_text;
use proto::time_entries::v1 as pb;

use crate::time_entry::TimeEntry;

pub(crate) fn created(ctx: &Ctx, entry: &TimeEntry) -> Emitted {
    let event = pb::TimeEntryCreated {
        time_entry_id: entry.id.to_string(),
        project_id: entry.project_id.to_string(),
        consultant_id: entry.consultant_id.to_string(),
        worked_on: date_text(entry.span.worked_on),
        worked_minutes: entry.span.worked_minutes,
        billable: entry.billable,
        external_id: entry.external_id.clone().unwrap_or_default(),
        overlap_kept: entry.overlap_kept,
    };
    Emitted::new(ctx, entry.id.uuid(), entry.version, &event)
}

pub(crate) fn updated(ctx: &Ctx, entry: &TimeEntry, changed: &[&str]) -> Emitted {
    let event = pb::TimeEntryUpdated {
        time_entry_id: entry.id.to_string(),
        project_id: entry.project_id.to_string(),
        consultant_id: entry.consultant_id.to_string(),
        worked_on: date_text(entry.span.worked_on),
        worked_minutes: entry.span.worked_minutes,
        billable: entry.billable,
        external_id: entry.external_id.clone().unwrap_or_default(),
        overlap_kept: entry.overlap_kept,
        changed_fields: changed.iter().map(|field| (*field).to_owned()).collect(),
    };
    Emitted::new(ctx, entry.id.uuid(), entry.version, &event)
}

pub(crate) fn deleted(ctx: &Ctx, last: &TimeEntry) -> Emitted {
    let event = pb::TimeEntryDeleted {
        time_entry_id: last.id.to_string(),
        project_id: last.project_id.to_string(),
        consultant_id: last.consultant_id.to_string(),
        worked_on: date_text(last.span.worked_on),
        worked_minutes: last.span.worked_minutes,
        billable: last.billable,
    };
    Emitted::new(ctx, last.id.uuid(), last.version, &event)
}
