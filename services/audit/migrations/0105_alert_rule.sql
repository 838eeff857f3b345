-- Rules are in a file that changes: an alert keeps what its rule said when it was raised. Null in older rows.
alter table audit.alert
    add column title text,
    add column description text,
    -- Who caused the first event, without saying so: the key of audit.offender. Null in older rows.
    add column offender_key uuid;

-- Who is behind the key of an alert, in the offender's own tenant: the victim's rows name nobody.
create table audit.offender (
    tenant_id  uuid not null,
    key        uuid not null,
    actor_kind text not null,
    actor_id   text not null,
    constraint offender_pkey primary key (tenant_id, key)
);

-- For the operator: from an alert to the offender, whose tenant the alert does not know.
create index offender_key_idx on audit.offender (key);

alter table audit.offender enable row level security;
alter table audit.offender force row level security;

create policy tenant_isolation on audit.offender to audit_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

create policy operator_read on audit.offender for select to audit_operator using (true);

grant select, insert on audit.offender to audit_app;
grant select on audit.offender to audit_operator;
