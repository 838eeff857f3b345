//! Clients on the wire.

use kit::change;
use kit::fields::{Fields, timestamp};
use kit::once::Repeat;
use proto::projects::v1 as pb;

use crate::client::{Client, ClientId, MUTABLE, Profile};
use crate::operations::ClientUpdate;

pub(super) fn read_id(text: &str) -> Result<ClientId, kit::Error> {
    let mut fields = Fields::new();
    let id = fields.id("client_id", text);
    fields.finish(id)
}

pub(super) fn read_create(
    request: &pb::CreateClientRequest,
) -> Result<(Repeat, Profile), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let client = request.client.clone().unwrap_or_default();
    let profile = read_profile(&mut fields, &client, MUTABLE);
    Ok((repeat, fields.finish(Some(profile))?))
}

pub(super) fn read_update(
    request: &pb::UpdateClientRequest,
) -> Result<(Repeat, ClientUpdate), kit::Error> {
    let repeat = Repeat::of(&request.request_id, request)?;
    let mut fields = Fields::new();
    let client = request.client.clone().unwrap_or_default();
    let id = fields.id("client.id", &client.id);
    let etag = fields.etag(&client.etag);
    let named = fields.mask(request.update_mask.as_ref(), MUTABLE, |name| match name {
        "code" => !client.code.is_empty(),
        "display_name" => !client.display_name.is_empty(),
        _ => false,
    });
    let wished = read_profile(&mut fields, &client, &named);
    let update = id.map(|id| ClientUpdate {
        id,
        etag,
        named,
        wished,
    });
    Ok((repeat, fields.finish(update)?))
}

/// Reads the fields of `names`; the others keep an empty value that nobody looks at.
fn read_profile(fields: &mut Fields, client: &pb::Client, names: &[&str]) -> Profile {
    let reads = |name: &str| names.contains(&name);
    let mut profile = Profile {
        code: String::new(),
        display_name: String::new(),
    };
    if reads("code") {
        profile.code = fields
            .code("client.code", &client.code, 64)
            .unwrap_or_default();
    }
    if reads("display_name") {
        profile.display_name = fields
            .text("client.display_name", &client.display_name, 200)
            .unwrap_or_default();
    }
    profile
}

impl From<Client> for pb::Client {
    fn from(client: Client) -> Self {
        Self {
            id: client.id.to_string(),
            code: client.profile.code,
            display_name: client.profile.display_name,
            etag: change::etag(client.version),
            create_time: Some(timestamp(client.created_at)),
            update_time: Some(timestamp(client.updated_at)),
        }
    }
}
