-- How much of the deployment a firm may use. Firms that were admitted before plans have the ordinary one.
alter table tenants.tenant
    add column plan text not null default 'standard',
    add constraint tenant_plan_check check (plan in ('small', 'standard', 'large'));
