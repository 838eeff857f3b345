//! The model of a client, and the rules of its changes. Pure.

use kit::ids::{Id, Kind};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Marks ids of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientKind;

impl Kind for ClientKind {
    const NAME: &'static str = "client";
}

/// The id of a client.
pub type ClientId = Id<ClientKind>;

/// What a caller says of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Unique among the tenant's clients; 1 to 64 characters.
    pub code: String,
    /// 1 to 200 characters.
    pub display_name: String,
}

/// A customer of the firm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Made by this service.
    pub id: ClientId,
    /// What the caller says of it.
    pub profile: Profile,
    /// Rises by one with each change.
    pub version: i64,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it was last changed.
    pub updated_at: OffsetDateTime,
}

/// The fields that an update may name.
pub const MUTABLE: &[&str] = &["code", "display_name"];

impl Client {
    /// A new client at version 1.
    pub fn new(id: ClientId, profile: Profile, now: OffsetDateTime) -> Self {
        Self {
            id,
            profile,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Takes the `named` fields over from `wished`; the names of those that really changed, and none if nothing did.
    pub fn update(
        &mut self,
        wished: &Profile,
        named: &[&str],
        now: OffsetDateTime,
    ) -> Vec<&'static str> {
        let changed: Vec<&'static str> = MUTABLE
            .iter()
            .copied()
            .filter(|field| named.contains(field) && take(&mut self.profile, wished, field))
            .collect();
        if !changed.is_empty() {
            self.version += 1;
            self.updated_at = now;
        }
        changed
    }
}

/// Copies one field; whether that changed it.
fn take(profile: &mut Profile, wished: &Profile, field: &str) -> bool {
    let (current, wished) = match field {
        "code" => (&mut profile.code, &wished.code),
        "display_name" => (&mut profile.display_name, &wished.display_name),
        _ => return false,
    };
    let changed = current != wished;
    current.clone_from(wished);
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    fn profile(code: &str, display_name: &str) -> Profile {
        Profile {
            code: code.to_owned(),
            display_name: display_name.to_owned(),
        }
    }

    fn globex() -> Client {
        let id = ClientId::new(uuid::Uuid::from_u128(1));
        Client::new(id, profile("globex", "Globex"), OffsetDateTime::UNIX_EPOCH)
    }

    #[test]
    fn an_update_changes_only_the_named_fields_and_counts_one_version() {
        let mut client = globex();
        let later = OffsetDateTime::UNIX_EPOCH + Duration::HOUR;
        let changed = client.update(&profile("gx", "Other"), &["code"], later);
        assert_eq!(changed, ["code"]);
        assert_eq!(client.profile, profile("gx", "Globex"));
        assert_eq!((client.version, client.updated_at), (2, later));
    }

    #[test]
    fn an_update_to_what_already_is_changes_nothing() {
        let mut client = globex();
        let later = OffsetDateTime::UNIX_EPOCH + Duration::HOUR;
        assert!(
            client
                .update(&profile("globex", "Globex"), MUTABLE, later)
                .is_empty()
        );
        assert_eq!(client, globex());
    }
}
