drop procedure notifyql.prune(text, interval, interval);
drop function notifyql.turn(interval);
drop function notifyql.empty(smallint, timestamptz);
drop function notifyql.occupied();
drop table notifyql.ring;
drop table notifyql.retention;
alter table notifyql.setting drop constraint retention_is_at_most_7_slots;
alter table notifyql.setting alter slot_seconds set default 10800;
