//! From the model to published events.

use kit::Ctx;
use kit::events::Emitted;
use proto::consultants::v1 as pb;

use crate::consultant::Consultant;

pub(crate) fn created(ctx: &Ctx, consultant: &Consultant) -> Emitted {
    let event = pb::ConsultantCreated {
        consultant_id: consultant.id.to_string(),
        code: consultant.profile.code.clone(),
        display_name: consultant.profile.display_name.clone(),
        subject: consultant.profile.subject.clone().unwrap_or_default(),
        state: state(consultant).into(),
    };
    Emitted::new(ctx, consultant.id.uuid(), consultant.version, &event)
}

pub(crate) fn updated(ctx: &Ctx, consultant: &Consultant, changed: &[&str]) -> Emitted {
    let event = pb::ConsultantUpdated {
        consultant_id: consultant.id.to_string(),
        code: consultant.profile.code.clone(),
        display_name: consultant.profile.display_name.clone(),
        subject: consultant.profile.subject.clone().unwrap_or_default(),
        state: state(consultant).into(),
        changed_fields: changed.iter().map(|field| (*field).to_owned()).collect(),
    };
    Emitted::new(ctx, consultant.id.uuid(), consultant.version, &event)
}

pub(crate) fn deactivated(ctx: &Ctx, consultant: &Consultant) -> Emitted {
    let event = pb::ConsultantDeactivated {
        consultant_id: consultant.id.to_string(),
        code: consultant.profile.code.clone(),
        display_name: consultant.profile.display_name.clone(),
        subject: consultant.profile.subject.clone().unwrap_or_default(),
        state: state(consultant).into(),
    };
    Emitted::new(ctx, consultant.id.uuid(), consultant.version, &event)
}

/// The state on the wire.
pub(crate) fn state(consultant: &Consultant) -> pb::ConsultantState {
    if consultant.active {
        pb::ConsultantState::Active
    } else {
        pb::ConsultantState::Inactive
    }
}
