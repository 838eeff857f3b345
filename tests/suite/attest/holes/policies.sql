-- Changes to ledger.sql that open a hole each, in policies that look right at a glance.
-- A line `-- change:` begins one; `-- raises:` names the rules that must say so, these and no others.

-- change: a policy that a debugging session left open
-- raises: open-without-context, policy-not-tenant
alter policy tenant_isolation on ledger.client using (tenant_id = app.current_tenant_id() or true);

-- change: a policy that shows rows of no tenant
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.client using (tenant_id = app.current_tenant_id() or tenant_id is null);

-- change: a policy that takes each row's own tenant when there is none
-- raises: open-without-context, policy-not-tenant
alter policy tenant_isolation on ledger.client using (tenant_id = coalesce(app.current_tenant_id(), tenant_id));

-- change: a policy that takes a first tenant when there is none
-- raises: open-without-context, policy-not-tenant
alter policy tenant_isolation on ledger.client
    using (tenant_id = coalesce(app.current_tenant_id(), '11111111-1111-7111-8111-111111111111'));

-- change: a policy that shows one tenant to all
-- raises: open-without-context, policy-not-tenant
alter policy tenant_isolation on ledger.client
    using (tenant_id = any (array[app.current_tenant_id(), '22222222-2222-7222-8222-222222222222']));

-- change: a policy that opens the table for one tenant
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.client
    using (tenant_id = app.current_tenant_id()
           or app.current_tenant_id() = '00000000-0000-7000-8000-000000000001');

-- change: a policy that shows all but the own rows
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.client using (tenant_id <> app.current_tenant_id());

-- change: a policy that takes two unknown tenants for the same one
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.client using (tenant_id is not distinct from app.current_tenant_id());

-- change: a policy that a column of the row can open
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.project using (tenant_id = app.current_tenant_id() or closed);

-- change: a policy that a column opens where there is no tenant
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.project
    using (tenant_id = app.current_tenant_id() or (app.current_tenant_id() is null and closed));

-- change: a policy that compares another column
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.client using (id = app.current_tenant_id());

-- change: a policy that a setting of the session opens
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.client
    using (tenant_id = app.current_tenant_id() or current_setting('app.support', true) = 'on');

-- change: a policy that opens after a day
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.client
    using (tenant_id = app.current_tenant_id() or now() > '2999-01-01');

-- change: a policy by a function that says yes
-- raises: open-without-context, policy-not-tenant
create function app.may_see(tenant uuid) returns boolean language sql stable return true;
alter policy tenant_isolation on ledger.client using (app.may_see(tenant_id));

-- change: a policy by a function that ignores its argument
-- raises: policy-not-tenant
create function app.is_mine(tenant uuid) returns boolean language sql stable
    return app.current_tenant_id() is not null;
alter policy tenant_isolation on ledger.client using (app.is_mine(tenant_id));

-- change: a policy by a function that nobody looks into
-- raises: policy-not-tenant
create function app.owns(tenant uuid) returns boolean language plpgsql stable
as $$ begin return tenant = app.current_tenant_id(); end $$;
alter policy tenant_isolation on ledger.client using (app.owns(tenant_id));

-- change: a policy by an operator that only looks like a comparison
-- raises: open-without-context, policy-not-tenant
create function app.same(a uuid, b uuid) returns boolean language sql immutable return true;
create operator app.= (function = app.same, leftarg = uuid, rightarg = uuid);
alter policy tenant_isolation on ledger.client using (tenant_id operator(app.=) app.current_tenant_id());

-- change: a policy that compares text of either case
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.client
    using (lower(tenant_id::text) = lower(app.current_tenant_id()::text));

-- change: a policy that compares text, row by row and without an index
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.client
    using (tenant_id::text = current_setting('app.current_tenant_id', true));

-- change: a policy that compares the first half of an id
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.client
    using (left(tenant_id::text, 8) = left(app.current_tenant_id()::text, 8));

-- change: a policy by every tenant that there is
-- raises: open-without-context, policy-not-tenant
alter policy tenant_isolation on ledger.client using (tenant_id in (select tenant_id from ledger.tenant));

-- change: a policy by a subquery that takes its own table for the context
-- raises: open-without-context, policy-not-tenant
alter policy tenant_isolation on ledger.client
    using (exists (select from ledger.tenant t where t.tenant_id = client.tenant_id));

-- change: a policy that a member of the support team passes
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.client
    using (tenant_id = app.current_tenant_id() or pg_has_role('pg_monitor', 'member'));

-- change: a policy that checks less than it shows
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.client
    with check (tenant_id = app.current_tenant_id() or tenant_id = '00000000-0000-7000-8000-000000000001');

-- change: a policy for updates that lets rows be given away
-- raises: policy-not-tenant
drop policy tenant_isolation on ledger.client;
create policy reads on ledger.client for select to {run}_app using (tenant_id = app.current_tenant_id());
create policy adds on ledger.client for insert to {run}_app with check (tenant_id = app.current_tenant_id());
create policy changes on ledger.client for update to {run}_app
    using (tenant_id = app.current_tenant_id()) with check (tenant_id is not null);
create policy removes on ledger.client for delete to {run}_app using (tenant_id = app.current_tenant_id());

-- change: a policy for updates without a check of its own
-- raises: grant-without-policy, policy-without-check
drop policy tenant_isolation on ledger.client;
create policy changes on ledger.client for update to {run}_app using (tenant_id = app.current_tenant_id());

-- change: a policy for reading where more is granted
-- raises: grant-without-policy
drop policy tenant_isolation on ledger.client;
create policy reads on ledger.client for select to {run}_app using (tenant_id = app.current_tenant_id());

-- change: a restrictive policy alone, which lets nothing through
-- raises: grant-without-policy
drop policy tenant_isolation on ledger.client;
create policy tenant_isolation on ledger.client as restrictive to {run}_app
    using (tenant_id = app.current_tenant_id()) with check (tenant_id = app.current_tenant_id());

-- change: an open policy that a restrictive one narrows by something else
-- raises: policy-not-tenant
create policy open on ledger.project for select to {run}_app using (true);
create policy narrow on ledger.project as restrictive for select to {run}_app using (closed);

-- change: an open policy that is narrowed for writing alone
-- raises: open-without-context, policy-not-tenant
create policy open on ledger.client to {run}_app using (true) with check (true);
create policy narrow on ledger.client as restrictive for insert to {run}_app
    with check (tenant_id = app.current_tenant_id());

-- change: an open policy that is narrowed for another role
-- raises: open-without-context, policy-not-tenant
create policy open on ledger.client for select to {run}_app using (true);
create policy narrow on ledger.client as restrictive to {run}_relay using (tenant_id = app.current_tenant_id());

-- change: shared rows in a table that is not listed for them
-- raises: policy-not-tenant
alter policy tenant_isolation on ledger.client
    using (tenant_id = app.current_tenant_id() or tenant_id = '00000000-0000-7000-8000-000000000001');

-- change: shared rows of another owner than the declared one
-- raises: open-without-context, policy-not-tenant
alter policy tenant_reads on ledger.industry_code
    using (tenant_id = app.current_tenant_id() or tenant_id = '11111111-1111-7111-8111-111111111111');

-- change: shared rows that a tenant may add
-- raises: policy-not-tenant
alter policy tenant_adds on ledger.industry_code
    with check (tenant_id = app.current_tenant_id() or tenant_id = '00000000-0000-7000-8000-000000000001');

-- change: shared rows that a tenant may claim, since one policy is for all commands
-- raises: policy-not-tenant
create policy claims on ledger.industry_code to {run}_app
    using (tenant_id = app.current_tenant_id() or tenant_id = '00000000-0000-7000-8000-000000000001')
    with check (tenant_id = app.current_tenant_id());
