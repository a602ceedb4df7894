drop table notifyql.change;
drop sequence notifyql.change_seq;
