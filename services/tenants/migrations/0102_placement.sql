-- The cell that a firm's rows are in. Firms from before there were cells are in the shared one, and have rows.
alter table tenants.tenant
    add column cell text not null default 'shared',
    -- Rises by one with each placement.
    add column placement_epoch bigint not null default 1,
    -- Whether the firm has ever been active: it may have rows from then on, and is not placed anew.
    add column admitted boolean not null default true,
    add constraint tenant_cell_check check (cell ~ '^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$'),
    add constraint tenant_admitted_check check (admitted or not active);
