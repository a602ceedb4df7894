package capturetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/notifyql/notifyql/internal/localpg/pgtest"
)

// login makes a role, in the named roles of the schema's, and connects as it.
func login(t testing.TB, db *pgtest.DB, in ...string) *pgx.Conn {
	t.Helper()
	name := db.Role(t, "")
	db.Exec(t, `revoke create on schema public from public; grant create on schema public to `+name) // 15's default, and so that hostile has a right to lack
	for _, kind := range in {
		db.Exec(t, `grant `+role(t, db, kind)+` to `+name)
	}
	return db.Conn(t, name)
}

func code(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

const denied = "42501"

// A login without rights on the schema can call nothing, read nothing, find the channel nowhere, hear nothing and forge
// nothing; what it writes to a watched table is written and announced.
func TestAStrangerLearnsAndForgesNothing(t *testing.T) {
	t.Parallel()
	db, e := setup(t)
	db.Exec(t, `grant insert, update, select, delete, trigger on t to public`)
	stranger := login(t, db)
	ctx := t.Context()
	for _, sql := range []string{`insert into t values (1, 'a', 'secret')`, `update t set x = 'y'`, `delete from t`} {
		if _, err := stranger.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	want(t, text(e.hear(t)), "I 1\nU 2\nD 3")

	for _, sql := range strings.Split(lines(t, db, `
		select format('select * from notifyql.%I', relname) from pg_class where relnamespace = 'notifyql'::regnamespace and relkind in ('r', 'v', 'p')
		union all
		select format('select nextval(%L)', 'notifyql.' || relname) from pg_class where relnamespace = 'notifyql'::regnamespace and relkind = 'S'
		union all
		select format('select notifyql.%I(%s)', proname, (select string_agg('null', ', ') from generate_series(1, pronargs)))
		  from pg_proc where pronamespace = 'notifyql'::regnamespace
		union all
		select format('create trigger " forged" after insert on t for each row execute function notifyql.%I()', proname)
		  from pg_proc where pronamespace = 'notifyql'::regnamespace and prorettype = 'trigger'::regtype`), "\n") {
		if _, err := stranger.Exec(ctx, sql); code(err) != denied {
			t.Errorf("%s: %v", sql, err)
		}
	}

	// The channel is in no catalog that it can read, and in no setting.
	secret := strings.TrimPrefix(e.channel, "notifyql_")
	if _, err := e.conn.Exec(ctx, `select 1`); err != nil { // the session that listens is in pg_stat_activity with its last statement
		t.Fatal(err)
	}
	for _, rel := range strings.Split(lines(t, db, `select oid::regclass::text from pg_class
		where relnamespace in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) and relkind in ('r', 'v') and oid <> 'pg_largeobject'::regclass`), "\n") {
		var found bool
		err := stranger.QueryRow(ctx, `select exists (select from `+rel+` x where x::text like '%'||$1||'%')`, secret).Scan(&found)
		if err != nil && code(err) != denied {
			t.Logf("%s: %v", rel, err)
		}
		if found {
			t.Errorf("the channel's name is in %s", rel)
		}
	}

	// It hears nothing on what it can guess, and what it says there is not heard.
	for _, guess := range []string{"notifyql", "notifyql_", "notifyql_0", "change", "notifyql.change"} {
		if _, err := stranger.Exec(ctx, `listen "`+guess+`"; select pg_notify('`+guess+`', '[1,"M",5,1,null,null]')`); err != nil {
			t.Fatal(err)
		}
	}
	db.Exec(t, `insert into t values (2, 'b', 'secret')`)
	if heard := text(e.hear(t)); heard != "I 4\n" {
		t.Errorf("heard %q", heard)
	}
	for {
		n, err := stranger.WaitForNotification(within(t, stranger))
		if err != nil {
			break
		}
		if !strings.Contains(n.Payload, `"M",5`) {
			t.Errorf("the stranger heard %q on %q", n.Payload, n.Channel)
		}
	}
}

// within is a context that ends when all that was committed before has arrived at conn.
func within(t *testing.T, conn *pgx.Conn) context.Context {
	t.Helper()
	if _, err := conn.Exec(t.Context(), `select 1`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// Whoever may watch can announce changes of his own tables and of nobody else's, whatever triggers he makes and whatever
// functions of ours he calls.
func TestAWatcherSpeaksForHisOwnTablesOnly(t *testing.T) {
	t.Parallel()
	db, e := setup(t)
	db.Exec(t, `grant trigger on t to public`)
	w := login(t, db, "watch")
	ctx := t.Context()
	exec := func(sql string) {
		t.Helper()
		if _, err := w.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	refused := func(sql, want string) {
		t.Helper()
		if _, err := w.Exec(ctx, sql); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for _, sql := range []string{
		`select * from notifyql.secret`, `select * from notifyql.change`, `select * from notifyql.watch`,
		`insert into notifyql.change (watch, op, shared) values (1, 'T', true)`, `select notifyql.publish('x', '1', 'a')`,
		`select notifyql.announce(null)`, `select notifyql.say_watched(1)`, `select notifyql.believe(1, 1, '{x}')`, `select notifyql.image(row(1))`,
	} {
		refused(sql, denied)
	}
	refused(`select notifyql.watch('t', shared => true)`, "must be owner")
	refused(`select notifyql.unwatch('t')`, "must be owner")
	refused(`select notifyql.confirm('t', 1::smallint, true, '{}', null, null, false)`, "not those")
	refused(`select notifyql.forget('t')`, "still has the triggers")
	exec(`select notifyql.reserve('t')`)
	exec(`select notifyql.confirm('t', 2::smallint, false, '{}', null, null, false)`) // as it is already
	want(t, text(e.hear(t)), "")

	exec(`create table mine (id int, tenant_id text, x text); select notifyql.watch('mine')`)
	want(t, text(e.hear(t)), "W 2")
	exec(`create table forged (id int, tenant_id text, x text)`)
	exec(`create trigger " notifyql" after insert on forged for each row execute function notifyql.capture('1', 'tenant_id', '2', '', '', '{}')`)
	exec(`create trigger second after insert on forged for each row execute function notifyql.capture('1', 'tenant_id', '2', 'p', '', '{}')`)
	exec(`create trigger third after truncate on forged for each statement execute function notifyql.truncated('1')`)
	exec(`insert into forged values (1, 'victim', 'forged'); truncate forged`)
	exec(`create trigger twice after insert on mine for each row execute function notifyql.capture('2', 'tenant_id', '2', '', '', '{}')`)
	exec(`create trigger "  theirs" after insert on t for each row execute function notifyql.capture('1', '', '0', '', '', '{}')`)
	exec(`insert into mine values (1, 'me', 'x')`)
	db.Exec(t, `insert into t values (1, 'a', 'x')`)
	want(t, lines(t, db, `select concat(watch, ' ', op, tenant) from notifyql.change order by seq`), "2 Ime\n1 Ia")
	want(t, text(e.hear(t)), "I 1\nI 2")
}

// hostile is what an attacker's code tries, wherever it gets to run: it says as whom, and what it could do.
const hostile = `
create function attack(what text) returns void language plpgsql as $$
declare got text := '';
begin
	begin insert into notifyql.change (watch, op, shared, new) values (1, 'I', true, '{"forged": true}'); got := got || ' insert'; exception when others then end;
	begin perform from notifyql.secret; got := got || ' secret'; exception when others then end;
	begin perform from notifyql.change; got := got || ' log'; exception when others then end;
	begin perform notifyql.publish('forged', '1', shared => true); got := got || ' publish'; exception when others then end;
	begin create table public.loot (x int); got := got || ' create'; exception when others then end;
	raise notice '% as %:%', what, regexp_replace(current_user, '.*_', ''), got;
end $$;
create type mood as enum ('good', 'bad', 'worse', 'worst');
create function mood_json(m mood) returns json language plpgsql as $$
begin
	perform public.attack('cast');
	if format('%s', m) = 'worse' then raise 'no'; end if;
	if format('%s', m) = 'worst' then raise assert_failure; end if;
	return to_json('cast'::text);
end $$;
create cast (mood as json) with function mood_json(mood)`

// A cast to json of one's own type runs as a role that can do nothing, and may fail as it likes.
func TestHostileCastsRunAsNobody(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	w := login(t, db, "watch")
	ctx := t.Context()
	for _, sql := range []string{hostile, `create table mine (id int, tenant_id text, m mood, ms mood[]); select notifyql.watch('mine')`} {
		if _, err := w.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	notices := hearNotices(t, db, w.Config().User, `
		insert into mine values (1, 'a', 'good', '{bad}');
		insert into mine values (2, 'a', 'worse'), (3, 'b', 'worst');
		update mine set m = 'bad' where id = 2;
		delete from mine`)
	for _, n := range notices {
		if n != "cast as image:" {
			t.Error(n)
		}
	}
	if len(notices) < 8 {
		t.Errorf("%d notices: the attack did not run", len(notices))
	}
	want(t, lines(t, db, logged), `
		I 0 >a >{"id":1,"tenant_id":"a","m":"cast","ms":["cast"]}
		I 1 >a >
		I 1 >b >
		U 1 a>a >
		D 0 a> {"id":1,"tenant_id":"a","m":"cast","ms":["cast"]}>
		D 1 b> >
		D 0 a> {"id":2,"tenant_id":"a","m":"cast","ms":null}>`)
}

// Neither operators and functions in the writer's search_path, nor a tenant column's type and name, nor a trigger with
// another table's arguments make our functions run somebody's code as the owner.
func TestNoForeignCodeRunsAsTheOwner(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	w := login(t, db, "watch")
	ctx := t.Context()
	for _, sql := range []string{
		hostile,
		`create schema evil`,
	} {
		if _, err := w.Exec(ctx, sql); err != nil && code(err) != denied {
			t.Fatal(err)
		}
	}
	db.Exec(t, `create schema evil; grant all on schema evil to public`)
	for _, sql := range []string{
		`create function evil.texteq(text, text) returns boolean language plpgsql as $$ begin perform public.attack('operator'); return true; end $$;
		create operator evil.= (leftarg = text, rightarg = text, function = evil.texteq)`,
		`create function evil.row_to_json(record) returns json language plpgsql as $$ begin perform public.attack('row_to_json'); return null; end $$`,
		`create function evil.starts_with(text, text) returns boolean language plpgsql as $$ begin perform public.attack('starts_with'); return true; end $$`,
		`create function mood_text(m mood) returns text language plpgsql as $$ begin perform public.attack('text'); return 'x'; end $$;
		create cast (mood as text) with function mood_text(mood) as implicit`,
		// A tenant column that becomes a type of one's own.
		`create table retyped (id int, tenant_id text); select notifyql.watch('retyped');
		alter table retyped alter column tenant_id type mood using 'good'`,
		`create table retyped_too (id int, org text); select notifyql.watch('retyped_too', 'org');
		alter table retyped_too alter column org type mood using 'worse'`,
		// ($1).name calls a function of the row where it has no such column.
		`create table named (id int, row_to_json text); select notifyql.watch('named', 'row_to_json');
		create table unnamed (id int, m mood)`,
		`create view pg_temp.watched as select 1 as id`,
	} {
		if _, err := w.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	id := lines(t, db, `select id::text from notifyql.watch where rel = 'named'::regclass`)
	if _, err := w.Exec(ctx, `create trigger " notifyql" after insert on unnamed for each row execute function notifyql.capture('`+id+`', 'row_to_json', '2', '', '', '{}')`); err != nil {
		t.Fatal(err)
	}
	notices := hearNotices(t, db, w.Config().User, `
		set search_path = evil, pg_catalog, public;
		insert into retyped values (1, 'good'), (2, 'worse');
		insert into retyped_too values (1, 'good'), (2, 'worse');
		insert into unnamed values (1, 'worse');
		insert into named values (1, 'a');
		update retyped set tenant_id = 'bad'`)
	if len(notices) == 0 {
		t.Error("the attack did not run")
	}
	for _, n := range notices {
		if !strings.HasSuffix(n, " as image:") {
			t.Error(n)
		}
	}
	want(t, lines(t, db, `select distinct rel::text from notifyql.change join notifyql.watch w on w.id = watch order by 1`), "named\nretyped\nretyped_too")
	want(t, lines(t, db, `select coalesce(tenant, '') from notifyql.change c join notifyql.watch w on w.id = watch where rel::text like 'retyped%' order by seq`),
		"good\nworse\n"+"cast\nworse\nbad\nbad")
}

// hearNotices runs SQL as a role and returns the notices.
func hearNotices(t *testing.T, db *pgtest.DB, as, sql string) []string {
	t.Helper()
	config, err := pgx.ParseConfig(db.URLAs(as))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var notices []string
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		mu.Lock()
		defer mu.Unlock()
		notices = append(notices, n.Message)
	}
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, one := range strings.Split(sql, ";") {
		if _, err := conn.Exec(t.Context(), one); err != nil {
			t.Fatalf("%s: %v", one, err)
		}
	}
	return notices
}

func TestTheServersRole(t *testing.T) {
	t.Parallel()
	db, e := setup(t)
	s := login(t, db, "server")
	ctx := t.Context()
	for _, sql := range []string{
		`select * from notifyql.secret`, `select * from notifyql.change`, `select * from notifyql.watch`,
		`select * from notifyql.watched`, `select * from notifyql.setting`, `select * from notifyql.migrations`, `select last_value from notifyql.change_seq`,
		`select notifyql.publish('x', '1', 'a')`,
	} {
		if _, err := s.Exec(ctx, sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	want(t, text(e.hear(t)), "E 1")
	for _, sql := range []string{
		`insert into notifyql.change (watch, op, shared) values (1, 'T', true)`, `delete from notifyql.change`, `truncate notifyql.change_0`,
		`update notifyql.setting set min_schema = 9`, `update notifyql.watch set shared = true`, `select notifyql.watch('t')`, `select notifyql.confirm('t', null, true, '{}', null, null, false)`,
		`select nextval('notifyql.change_seq')`, `create table notifyql.x (id int)`,
	} {
		if _, err := s.Exec(ctx, sql); code(err) != denied {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// The roles have what they need and no more, and nothing is for everybody.
func TestRights(t *testing.T) {
	t.Parallel()
	db, _ := setup(t)
	want(t, lines(t, db, `select rolname::text from pg_roles where rolname ~ $1 and (rolcanlogin or rolsuper or rolcreaterole or rolcreatedb or rolbypassrls or rolreplication)`,
		"^"+role(t, db, "(owner|watch|image|tenant|server)$")), "")
	want(t, lines(t, db, `select pg_get_userbyid(relowner) || ' ' || relname from pg_class where relnamespace = 'notifyql'::regnamespace and relkind <> 'i'
		and pg_get_userbyid(relowner) <> $1`, role(t, db, "owner")), "postgres migrations")
	want(t, lines(t, db, `select proname::text from pg_proc where pronamespace = 'notifyql'::regnamespace and pg_get_userbyid(proowner) <> $1 order by 1`, role(t, db, "owner")),
		"convert\nimage\nimage_pair\nimage_without\nmake_tenant_of")
	want(t, lines(t, db, `select relname::text from pg_class, aclexplode(relacl) where relnamespace = 'notifyql'::regnamespace and grantee = 0
		union select proname from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) where pronamespace = 'notifyql'::regnamespace and grantee = 0
		union select nspname from pg_namespace, aclexplode(nspacl) where nspname = 'notifyql' and grantee = 0`), "")
	want(t, lines(t, db, `select proname::text from pg_proc where pronamespace = 'notifyql'::regnamespace and prosecdef
		and not coalesce(proconfig::text like '%search_path=pg_catalog, pg_temp%', false) order by 1`), "convert\nimage\nimage_pair\nimage_without") // their caller's is in force
	// The roles that run others' code can use nothing of ours, not even the schema.
	for _, kind := range []string{"image", "tenant"} {
		want(t, lines(t, db, `select classid::regclass::text || ' ' || deptype::text from pg_shdepend where refobjid = $1::regrole and dbid = (select oid from pg_database where datname = current_database())
			group by 1 order by 1`, role(t, db, kind)), "pg_proc o")
	}
}
