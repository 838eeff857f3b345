-- Lists of assignments were read by the index of the exclusion constraint wherever most firms have few assignments: it
-- knows no order, so for each page all assignments of the project or the consultant were read and sorted. As a partial
-- index it serves no query that does not say the same; every row meets the condition, by assignment_allocation_check,
-- so the constraint holds as before.
alter table projects.assignment
    drop constraint assignment_overlap_excl,
    add constraint assignment_overlap_excl exclude using gist (
        tenant_id with =,
        project_id with =,
        consultant_id with =,
        daterange(start_date, end_date, '[]') with &&
    ) where (allocation_percent > 0);

-- The list of a consultant's assignments to a project, in the order of creation.
create index assignment_pair_idx on projects.assignment (tenant_id, project_id, consultant_id, id);
