-- Changes to ledger.sql that open a hole each, in roles, functions and the context.
-- A line `-- change:` begins one; `-- raises:` names the rules that must say so, these and no others.

-- change: a role that is not there
-- raises: granted-to-stranger, policy-to-stranger, role-missing
alter role {run}_relay rename to {run}_ghost;

-- change: a superuser serves
-- raises: role-attribute
alter role {run}_app superuser;

-- change: a role that no policy binds serves
-- raises: role-attribute
alter role {run}_app bypassrls;

-- change: a relay that may make roles
-- raises: role-attribute
alter role {run}_relay createrole;

-- change: a relay that may replicate
-- raises: role-attribute
alter role {run}_relay replication;

-- change: an owner whom no policy binds
-- raises: role-attribute
alter role {run}_owner bypassrls;

-- change: the serving role may become the owner
-- raises: role-membership
grant {run}_owner to {run}_app;

-- change: the serving role is the relay as well
-- raises: role-lent, role-membership
grant {run}_relay to {run}_app;

-- change: a role from elsewhere may become the relay
-- raises: role-lent
grant {run}_relay to {run}_stranger;

-- change: the serving role reads all data
-- raises: role-membership
grant pg_read_all_data to {run}_app;

-- change: the serving role sees the statements of others
-- raises: role-membership
grant pg_monitor to {run}_app;

-- change: the serving role owns a function elsewhere
-- raises: role-owns
create function public.mine() returns integer language sql return 1;
grant create on schema public to {run}_app;
alter function public.mine() owner to {run}_app;
revoke create on schema public from {run}_app;

-- change: rights in another schema
-- raises: role-elsewhere
create schema payroll;
create table payroll.salary (id uuid primary key);
grant usage on schema payroll to {run}_app;
grant select on payroll.salary to {run}_app;

-- change: a right on one column in another schema
-- raises: role-elsewhere
create table public.salary (id uuid primary key);
grant select (id) on public.salary to {run}_relay;

-- change: a system function that reads files
-- raises: role-elsewhere
grant execute on function pg_read_file(text) to {run}_app;

-- change: the right to switch foreign keys off
-- raises: role-elsewhere
grant set on parameter session_replication_role to {run}_app;

-- change: the serving role may make tables
-- raises: role-creates
grant create on schema ledger to {run}_app;

-- change: everybody may make tables in public, as before PostgreSQL 15
-- raises: role-creates
grant create on schema public to public;

-- change: the relay may replace the context function
-- raises: role-creates
grant create on schema app to {run}_relay;

-- change: the serving role may make schemas
-- raises: role-creates
grant create on database {run} to {run}_app;

-- change: temporary tables, as is the default
-- raises: role-temporary
grant temporary on database {run} to public;

-- change: sessions that begin inside a tenant
-- raises: session-preset
alter role {run}_app set app.current_tenant_id = '11111111-1111-7111-8111-111111111111';

-- change: sessions of the database that begin without foreign keys
-- raises: session-preset
alter database {run} set session_replication_role = replica;

-- change: a session that is still inside a tenant
-- raises: context-leftover
select set_config('app.current_tenant_id', '11111111-1111-7111-8111-111111111111', false);

-- change: a function with the rights of its owner
-- raises: security-definer
alter function ledger.find_client security definer;

-- change: a function elsewhere with the rights of its owner
-- raises: security-definer
create function public.every_client() returns bigint language sql security definer
    begin atomic select count(*) from ledger.client; end;

-- change: a trigger with the rights of its owner
-- raises: security-definer
alter function ledger.keep_slug() security definer;

-- change: a function that sees rows before the policies do
-- raises: leakproof-function
create function public.spy(text) returns boolean language plpgsql leakproof
as $$ begin raise notice '%', $1; return true; end $$;

-- change: a function that leaves its caller in another tenant
-- raises: context-kept
alter function ledger.find_client reset all;

-- change: a function that hides which setting it leaves behind
-- raises: context-kept
create function ledger.become(name text, tenant uuid) returns void language plpgsql
as $$ begin perform set_config(name, tenant::text, true); end $$;
revoke execute on function ledger.become from public;

-- change: a function that sets the tenant and may be evaluated early
-- raises: context-kept
alter function ledger.find_client stable;

-- change: a context function that fails on what a commit leaves behind
-- raises: context-behavior
create or replace function app.current_tenant_id() returns uuid language sql stable parallel safe
    return current_setting('app.current_tenant_id', true)::uuid;

-- change: a context function that fails without a context
-- raises: context-behavior
create or replace function app.current_tenant_id() returns uuid language sql stable parallel safe
    return nullif(current_setting('app.current_tenant'), '')::uuid;

-- change: a context function with a tenant for those who have none
-- raises: context-behavior
create or replace function app.current_tenant_id() returns uuid language sql stable parallel safe
    return coalesce(nullif(current_setting('app.current_tenant_id', true), '')::uuid,
                    '11111111-1111-7111-8111-111111111111');

-- change: a context function that trusts another setting
-- raises: context-behavior
create or replace function app.current_tenant_id() returns uuid language sql stable parallel safe
    return nullif(current_setting('request.tenant', true), '')::uuid;

-- change: a context function whose answer is kept for a whole plan
-- raises: context-function
create or replace function app.current_tenant_id() returns uuid language sql immutable parallel safe
    return nullif(current_setting('app.current_tenant_id', true), '')::uuid;

-- change: a context function that costs a call for each row
-- raises: context-function
alter function app.current_tenant_id() set search_path = pg_catalog;

-- change: a context function with the rights of its owner
-- raises: context-function, security-definer
alter function app.current_tenant_id() security definer;

-- change: a context function in another language, which is not inlined
-- raises: context-function
create or replace function app.current_tenant_id() returns uuid language plpgsql stable parallel safe
as $$ begin return nullif(current_setting('app.current_tenant_id', true), '')::uuid; end $$;

-- change: a volatile context function
-- raises: context-function
alter function app.current_tenant_id() volatile;

-- change: the serving role writes all data
-- raises: role-membership
grant pg_write_all_data to {run}_app;

-- change: the serving role reads files of the server
-- raises: role-membership
grant pg_read_server_files to {run}_app;

-- change: the serving role is a member of a group that may become the owner
-- raises: role-membership
grant {run}_owner to {run}_stranger;
grant {run}_stranger to {run}_app;

-- change: a relay that may make databases
-- raises: role-attribute
alter role {run}_relay createdb;

-- change: sessions of one role in one database that begin inside a tenant
-- raises: session-preset
alter role {run}_app in database {run} set app.current_tenant_id = '11111111-1111-7111-8111-111111111111';

-- change: sessions that act as the owner
-- raises: session-preset
alter role {run}_app set role = {run}_owner;

-- change: sessions that find other functions before the system's own
-- raises: session-preset
alter role {run}_app set search_path = public, pg_catalog;

-- change: sessions of the database that fail where a policy would bind them
-- raises: session-preset
alter database {run} set row_security = off;

-- change: a serving role that plans as the server does
-- raises: serving-setting
alter role {run}_app reset jit;

-- change: a relay that compiles its queries
-- raises: serving-setting
alter role {run}_relay set jit = on;

-- change: a listed function with the rights of its owner, by its caller's search path
-- raises: definer-search-path
alter function ledger.server_day() reset search_path;

-- change: a listed function that finds temporary objects first
-- raises: definer-search-path
alter function ledger.server_day() set search_path = pg_catalog, public;

-- change: a listed function that reads tenants' rows
-- raises: definer-reaches-tenants
create or replace function ledger.server_day() returns date
    language sql security definer set search_path = pg_catalog, pg_temp
    return current_date + (select 0 * count(*)::integer from ledger.open_project);

-- change: a listed function whose text names a table of tenants
-- raises: definer-reaches-tenants
create or replace function ledger.server_day() returns date
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$ begin perform from ledger.client; return current_date; end $$;

-- change: a listed function that makes its statements while it runs
-- raises: definer-reaches-tenants
create or replace function ledger.server_day() returns date
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$ begin execute 'select from led' || 'ger.client'; return current_date; end $$;

-- change: a function that nothing confines
-- raises: untrusted-function
create function ledger.pid() returns integer language internal as 'pg_backend_pid';
revoke execute on function ledger.pid from public;

-- change: a large object for everybody
-- raises: large-object
select lo_create(4711);
grant select on large object 4711 to public;

-- change: a server that asks nobody who reads large objects
-- raises: large-object
set local lo_compat_privileges = on;

-- change: code that runs whenever the schema changes
-- raises: event-trigger
create function public.watch() returns event_trigger language plpgsql as $$ begin end $$;
create event trigger watch on ddl_command_end execute function public.watch();
