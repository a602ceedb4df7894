drop function notifyql.announce_marker(notifyql.change, name, text, boolean);
drop function notifyql.scope(integer, text, text);
drop function notifyql.announce(notifyql.change);
drop table notifyql.change;
drop sequence notifyql.change_seq;
drop trigger set_slot on notifyql.setting;
drop function notifyql.set_slot();
drop function notifyql.slot();
delete from notifyql.setting;
