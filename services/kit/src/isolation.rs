//! From what is known of services to what the check of isolation expects of their schemas.

use crate::attest;
use crate::host::Definition;

/// What the isolation check expects of the schemas of these services.
pub fn expected(definitions: &[Definition]) -> attest::Expected {
    let schemas = definitions.iter().map(|definition| {
        let schema = definition.schema;
        let relay = |table: &str| attest::ExemptRole {
            role: format!("{schema}_relay"),
            table: table.to_owned(),
            commands: vec!["select".to_owned(), "delete".to_owned()],
            reason: "the relay moves the rows of all tenants".to_owned(),
        };
        let mut exempt = vec![relay("outbox"), relay("security_outbox")];
        exempt.extend(definition.exemptions.iter().map(|exemption| {
            attest::ExemptRole {
                role: exemption.role.to_owned(),
                table: exemption.table.to_owned(),
                commands: exemption
                    .commands
                    .iter()
                    .map(|command| (*command).to_owned())
                    .collect(),
                reason: exemption.reason.to_owned(),
            }
        }));
        attest::SchemaRules {
            schema: schema.to_owned(),
            owner: format!("{schema}_owner"),
            app: format!("{schema}_app"),
            exempt,
            tenantless: vec![
                (
                    "relay_lease".to_owned(),
                    "which relay moves which outbox; no tenant's rows".to_owned(),
                ),
                (
                    "_migration".to_owned(),
                    "the versions applied; no tenant's rows".to_owned(),
                ),
            ],
            shared: Vec::new(),
            definers: Vec::new(),
        }
    });
    attest::Expected {
        schemas: schemas.collect(),
        tenant_column: "tenant_id".to_owned(),
        context_function: "app.current_tenant_id".to_owned(),
        setting: "app.current_tenant_id".to_owned(),
        role_settings: [("plan_cache_mode", "force_generic_plan"), ("jit", "off")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    }
}
