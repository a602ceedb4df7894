package nemesis

// schema are the watched tables, and what records the truth: a ledger that a trigger writes beside the product's own, and for
// each transaction the snapshot with which it began to write. Its stamp is odd while the writer means to roll back.
const schema = `
	create function stamp() returns bigint language sql volatile as
	$$ select floor(random() * 1e15)::bigint * 2 + coalesce(nullif(current_setting('nemesis.doomed', true), ''), '0')::bigint $$;

	create table ledger (seq bigserial, tbl text not null, xid bigint not null default pg_current_xact_id()::text::bigint, old json, new json);
	create table begun (xid bigint primary key default pg_current_xact_id()::text::bigint, snapshot pg_snapshot not null default pg_current_snapshot());

	create function record() returns trigger language plpgsql as $$
	begin
	  if tg_op = 'TRUNCATE' then
	    insert into ledger (tbl) values (tg_argv[0]);
	  elsif tg_op = 'INSERT' then
	    insert into ledger (tbl, new) values (tg_argv[0], row_to_json(new));
	  elsif tg_op = 'DELETE' then
	    insert into ledger (tbl, old) values (tg_argv[0], row_to_json(old));
	  else
	    insert into ledger (tbl, old, new) values (tg_argv[0], row_to_json(old), row_to_json(new));
	  end if;
	  return null;
	end $$;

	-- items: some rows are changed again by a trigger, inside of the statement.
	create table items (id bigint primary key, tenant_id text not null, v bigint not null default 0, stamp bigint not null default stamp(),
	                    n integer not null, grp text not null, note text);
	create sequence item_id;
	create function again() returns trigger language plpgsql as $$
	begin
	  update items set v = v + 1, stamp = stamp() where id = new.id;
	  return null;
	end $$;
	create trigger again after insert or update of n on items for each row when (new.n % 16 = 3 and pg_trigger_depth() = 0) execute function again();

	-- lines, in partitions: each write also changes a sum.
	create table sums (id bigint primary key, tenant_id text not null, v bigint not null default 0, stamp bigint not null default stamp(),
	                   n integer not null, grp text not null, note text);
	create table lines (like sums including defaults, primary key (id)) partition by hash (id);
	create table lines_0 partition of lines for values with (modulus 2, remainder 0);
	create table lines_1 partition of lines for values with (modulus 2, remainder 1);
	create sequence line_id;
	create function add_up() returns trigger language plpgsql as $$
	begin
	  update sums set v = v + 1, stamp = stamp(), n = (n + 7) % 100 where tenant_id = new.tenant_id and id % 4 = new.id % 4;
	  return null;
	end $$;
	create trigger add_up after insert or update on lines for each row execute function add_up();

	create trigger zz_record after insert or update or delete on items for each row execute function record('items');
	create trigger zz_record after insert or update or delete on sums for each row execute function record('sums');
	create trigger zz_record after insert or update or delete on lines for each row execute function record('lines');

	create trigger zz_empty after truncate on items for each statement execute function record('items');
	create trigger zz_empty after truncate on lines for each statement execute function record('lines');

	-- desks publish: each numbers its own events, which are recorded as rows of it.
	create table desks (like sums including defaults, primary key (id));
	create function tell(desk bigint) returns void language plpgsql as $$
	declare
	  d desks;
	begin
	  update desks set v = v + 1, stamp = stamp(), n = floor(random() * 100) where id = desk returning * into d;
	  insert into ledger (tbl, new) values ('news', row_to_json(d));
	  perform notifyql.publish('news', json_build_object('id', d.id::text, 'v', d.v::text, 'stamp', d.stamp::text, 'tenantId', d.tenant_id,
	                                                     'n', d.n, 'grp', d.grp)::jsonb, d.tenant_id);
	end $$;
	insert into desks (id, tenant_id, n, grp) select i, (array['a', 'b', 'c'])[1 + i % 3], 0, 'g' from generate_series(0, 11) i;
	insert into desks (id, tenant_id, n, grp) select -1 - 4 * i, (array['a', 'b', 'c'])[1 + i], 0, 'marker' from generate_series(0, 2) i;

	select notifyql.watch('items');
	select notifyql.watch('sums');
	select notifyql.watch('lines');

	insert into items (id, tenant_id, n, grp) select nextval('item_id'), (array['a', 'b', 'c'])[1 + i % 3], i % 100, 'g' || i % 4 from generate_series(1, 600) i;
	insert into sums (id, tenant_id, n, grp) select i, (array['a', 'b', 'c'])[1 + i / 4], i, 'g' || i % 4 from generate_series(0, 11) i;
	insert into lines (id, tenant_id, n, grp) select nextval('line_id'), (array['a', 'b', 'c'])[1 + i % 3], i % 100, 'g' || i % 4 from generate_series(1, 300) i;
	insert into begun (xid) select distinct xid from ledger;`

var (
	tables  = []string{"items", "lines", "sums"}
	tenants = []string{"a", "b", "c"}
)
