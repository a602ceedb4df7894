drop table notifyql.change;
drop sequence notifyql.change_seq;
drop trigger set_slot on notifyql.setting;
drop function notifyql.set_slot();
drop function notifyql.slot();
delete from notifyql.setting;
