//! Changes to a schema without faults: those that open a hole, with the rules that must say so, and those that do not.

/// A change, and the rules that it must raise: these and no others, in the order of their names.
pub(super) struct Change {
    pub(super) what: &'static str,
    pub(super) sql: &'static str,
    pub(super) raises: &'static [&'static str],
}

const fn hole(what: &'static str, raises: &'static [&'static str], sql: &'static str) -> Change {
    Change { what, sql, raises }
}

const fn sound(what: &'static str, sql: &'static str) -> Change {
    hole(what, &[], sql)
}

/// Schemas that are as good as the first.
pub(super) const SOUND: &[Change] = &[
    sound("nothing changed", "select"),
    sound(
        "a table without rights and policies",
        "create table ledger.note (tenant_id uuid not null, id uuid not null, primary key (tenant_id, id));
         alter table ledger.note owner to {run}_owner;
         alter table ledger.note enable row level security;
         alter table ledger.note force row level security",
    ),
    sound(
        "a policy for each command",
        "drop policy tenant_isolation on ledger.client;
         create policy reads on ledger.client for select to {run}_app using (tenant_id = app.current_tenant_id());
         create policy adds on ledger.client for insert to {run}_app with check (tenant_id = app.current_tenant_id());
         create policy changes on ledger.client for update to {run}_app
             using (tenant_id = app.current_tenant_id()) with check (tenant_id = app.current_tenant_id());
         create policy removes on ledger.client for delete to {run}_app using (tenant_id = app.current_tenant_id())",
    ),
    sound(
        "a restrictive policy for all",
        "create policy only_open on ledger.project as restrictive using (not closed)",
    ),
    sound(
        "the relay bound to a tenant on a table of its own",
        "create policy relay_isolation on ledger.client for select to {run}_relay
             using (tenant_id = app.current_tenant_id());
         grant select on ledger.client to {run}_relay",
    ),
    sound(
        "more partitions and a unique key over them",
        "alter table ledger.time_entry add unique (tenant_id, project_id, span)",
    ),
    sound(
        "a publication with a row filter",
        "create publication feed for table ledger.client where (code = 'public')",
    ),
    sound(
        "a publication of what all tenants share",
        "create publication feed for table ledger.feature_flag",
    ),
    sound(
        "a trigger function of the schema",
        "create trigger kept after insert on ledger.client for each row execute function ledger.keep_slug()",
    ),
    sound(
        "a view on a view",
        "create view ledger.open_id with (security_invoker = on) as select id from ledger.open_project;
         alter view ledger.open_id owner to {run}_owner; grant select on ledger.open_id to {run}_app",
    ),
    sound(
        "timeouts and planning set for the serving role",
        "alter role {run}_app set statement_timeout = '9s'; alter role {run}_app set plan_cache_mode = force_generic_plan",
    ),
    sound(
        "defaults that take rights away",
        "alter default privileges for role {run}_owner revoke execute on functions from public",
    ),
    sound(
        "the right to connect",
        "grant connect on database {run} to {run}_app",
    ),
];

/// Schemas with one hole each.
pub(super) const HOLES: &[Change] = &[
    // Tables.
    hole("row security that stops short of the owner", &["rls-not-forced"],
        "alter table ledger.client no force row level security"),
    hole("no row security", &["open-without-context", "rls-not-enabled"],
        "alter table ledger.client disable row level security"),
    hole("a partition without row security", &["rls-not-enabled"],
        "alter table ledger.time_entry_1 disable row level security"),
    hole("a partition that binds all but its owner", &["rls-not-forced"],
        "alter table ledger.time_entry_0 no force row level security"),
    hole("a new partition, as everybody makes it", &["exclusion-incomplete", "rls-not-enabled", "rls-not-forced"],
        "alter table ledger.time_entry detach partition ledger.time_entry_1; drop table ledger.time_entry_1;
         create table ledger.time_entry_1 partition of ledger.time_entry for values with (modulus 2, remainder 1);
         alter table ledger.time_entry_1 owner to {run}_owner"),
    hole("a table without tenants that nobody listed", &["tenant-column-missing"],
        "create table ledger.setting (name text primary key); alter table ledger.setting owner to {run}_owner"),
    hole("a tenant that may be null", &["tenant-column-nullable"],
        "create table ledger.note (tenant_id uuid, id uuid); create index on ledger.note (tenant_id);
         alter table ledger.note owner to {run}_owner;
         alter table ledger.note enable row level security; alter table ledger.note force row level security"),
    hole("a tenant that is text", &["tenant-column-type"],
        "create table ledger.note (tenant_id text not null, id uuid not null, primary key (tenant_id, id));
         alter table ledger.note owner to {run}_owner;
         alter table ledger.note enable row level security; alter table ledger.note force row level security"),
    hole("a listed table that has become one of tenants",
        &["grant-without-policy", "key-not-by-tenant", "rls-not-enabled", "rls-not-forced", "open-without-context",
          "tenant-index-missing", "tenantless-wrong"],
        "alter table ledger.project drop constraint project_flag_fkey;
         alter table ledger.feature_flag add tenant_id uuid not null default gen_random_uuid()"),
    hole("a list that names a table of the past", &["tenantless-wrong"],
        "alter table ledger.project drop constraint project_flag_fkey; drop table ledger.feature_flag"),
    hole("the serving role owns a table", &["owner-wrong", "role-owns"],
        "grant create on schema ledger to {run}_app; alter table ledger.client owner to {run}_app;
         revoke create on schema ledger from {run}_app"),
    hole("the administrator owns a table", &["owner-wrong"],
        "alter table ledger.feature_flag owner to current_user"),
    hole("the serving role owns the schema", &["owner-serves", "role-creates", "role-owns"],
        "alter schema ledger owner to {run}_app"),
    hole("a foreign table", &["foreign-table"],
        "create foreign data wrapper far; create server away foreign data wrapper far;
         create foreign table ledger.remote (tenant_id uuid not null) server away;
         alter foreign table ledger.remote owner to {run}_owner"),
    hole("a parent elsewhere that shows the rows of its child", &["inheritance-elsewhere"],
        "create table public.everything (tenant_id uuid not null, id uuid not null);
         alter table ledger.outbox inherit public.everything".split_at(0).1),
];
