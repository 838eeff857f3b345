-- The windows of one log that are over: while a flood lasts, all others of the log would be read to find them.
create index flood_over_idx on audit.flood (tenant_id, operator_only, began_at);
