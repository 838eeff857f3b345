-- A shop that shares nothing with Catalyst but the idea: other names, a domain, the setting read in a policy.
create role {run}_boss noinherit;
create role {run}_web login noinherit password 'shop';
revoke temporary on database {run} from public;
revoke create on schema public from public;

create schema "Ctx";
grant usage on schema "Ctx" to {run}_boss, {run}_web;
create function "Ctx"."Tenant"() returns uuid language sql stable
    return nullif(current_setting('shop.tenant', true), '')::uuid;

create schema "Shop" authorization {run}_boss;
set role {run}_boss;
grant usage on schema "Shop" to {run}_web;
create domain "Shop"."Tenant ref" as uuid;
create table "Shop"."Country" (code text primary key);
grant select on "Shop"."Country" to {run}_web;

create table "Shop"."Order" (
    "TenantId" "Shop"."Tenant ref" not null,
    "Id"       uuid                not null,
    paid       boolean             not null default false,
    primary key ("TenantId", "Id")
);
create table "Shop"."Line" (
    "TenantId" "Shop"."Tenant ref" not null,
    "Order"    uuid                not null,
    number     integer             not null,
    primary key ("TenantId", "Order", number),
    foreign key ("TenantId", "Order") references "Shop"."Order" on delete cascade
);
alter table "Shop"."Order" enable row level security;
alter table "Shop"."Order" force row level security;
alter table "Shop"."Line" enable row level security;
alter table "Shop"."Line" force row level security;
create policy "Own rows" on "Shop"."Order" to {run}_web
    using ("Ctx"."Tenant"() = "TenantId") with check ("Ctx"."Tenant"() = "TenantId");
create policy "Own rows" on "Shop"."Line" to {run}_web
    using ("TenantId" = nullif(current_setting('shop.tenant', true), '')::uuid and number > 0)
    with check ("TenantId" = "Ctx"."Tenant"());
grant select, insert, update, delete on "Shop"."Order", "Shop"."Line" to {run}_web;
reset role;
