-- People who do the work. One row each; never deleted, since time entries and assignments name them.
create table consultants.consultant (
    tenant_id               uuid        not null,
    id                      uuid        not null,
    code                    text        not null,
    display_name            text        not null,
    email                   text,
    -- The e-mail in lower case: what must be unique. Under RLS only plain comparisons reach an index.
    email_folded            text,
    -- The `sub` of the person's tokens; lets the role `consultant` reach its own time.
    subject                 text,
    job_title               text        not null,
    weekly_capacity_minutes integer     not null,
    cost_rate_minor         bigint,
    cost_rate_currency      text,
    bill_rate_minor         bigint,
    bill_rate_currency      text,
    active                  boolean     not null,
    version                 bigint      not null,
    created_at              timestamptz not null,
    updated_at              timestamptz not null,
    constraint consultant_pkey primary key (tenant_id, id),
    constraint consultant_code_key unique (tenant_id, code),
    constraint consultant_email_key unique (tenant_id, email_folded),
    constraint consultant_subject_key unique (tenant_id, subject),
    constraint consultant_weekly_capacity_check check (weekly_capacity_minutes between 0 and 10080),
    constraint consultant_cost_rate_check check ((cost_rate_minor is null) = (cost_rate_currency is null)),
    constraint consultant_bill_rate_check check ((bill_rate_minor is null) = (bill_rate_currency is null))
);

-- Lists by state, in the order of creation (ids are UUIDv7).
create index consultant_active_idx on consultants.consultant (tenant_id, active, id);

alter table consultants.consultant enable row level security;
alter table consultants.consultant force row level security;

create policy tenant_isolation on consultants.consultant to consultants_app
    using (tenant_id = app.current_tenant_id())
    with check (tenant_id = app.current_tenant_id());

grant select, insert, update on consultants.consultant to consultants_app;
