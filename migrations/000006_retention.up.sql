-- Turning the ring: notifyql.turn() and notifyql.prune() (helper RETENTION is writing this).
select 1;
