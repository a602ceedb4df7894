package doctor

import (
	"context"
	"fmt"
	"time"
)

// stranger is a session that is in the way.
type stranger struct {
	pid  int
	name string
	gid  string // of a prepared transaction, which has no session
}

func (s stranger) String() string {
	if s.gid != "" {
		return fmt.Sprintf("prepared transaction %q", s.gid)
	}
	return fmt.Sprintf("session %d (%q)", s.pid, s.name)
}

func (s stranger) end() Step {
	if s.gid != "" {
		return sql("rollback prepared %s", literal(s.gid))
	}
	return sql("select pg_terminate_backend(%d)", s.pid)
}

// openTransactions are the sessions whose transaction is open since long, as far as the login may see it, the oldest first.
func (v *visit) openTransactions(ctx context.Context, where string, longer time.Duration, do func(s stranger, since time.Duration, writes bool) error) error {
	var s stranger
	var seconds float64
	var writes bool
	return v.each(ctx, `
		select a.pid, coalesce(a.application_name, ''), extract(epoch from pg_catalog.clock_timestamp() - a.xact_start)::float8,
		       exists (select from pg_catalog.pg_locks l where l.pid = a.pid and l.locktype = 'relation' and l.mode = 'RowExclusiveLock' and l.relation = 'notifyql.change'::regclass)
		from pg_catalog.pg_stat_activity a
		where a.xact_start < pg_catalog.clock_timestamp() - $1::float8 * interval '1 second' and a.pid <> pg_catalog.pg_backend_pid()
		  and coalesce(a.backend_type, '') = 'client backend' and `+where+`
		order by a.xact_start limit 20`,
		[]any{&s.pid, &s.name, &seconds, &writes}, func() error {
			return do(s, time.Duration(seconds*float64(time.Second)).Round(time.Second), writes)
		}, longer.Seconds())
}

func (v *visit) queue(ctx context.Context) (string, error) {
	var used float64
	if err := v.conn.QueryRow(ctx, `select pg_catalog.pg_notification_queue_usage()`).Scan(&used); err != nil {
		return "", err
	}
	if used <= v.o.Limits.Queue {
		return fmt.Sprintf("%.2g %% of the queue of notifications is in use", 100*used), nil
	}
	severity := Warning
	if used > 0.5 {
		severity = Error
	}
	var fix []Step
	who := "a session that listens and does not end its transaction"
	err := v.openTransactions(ctx, "true", 0, func(s stranger, since time.Duration, _ bool) error {
		if len(fix) == 0 {
			who = fmt.Sprintf("such as %s, for %v", s, since)
		}
		fix = append(fix, s.end())
		return nil
	})
	if len(fix) == 0 {
		fix = []Step{advice("end the sessions whose transactions are open: select pid, xact_start from pg_stat_activity order by 2")}
	}
	v.found(severity, "queue", "", fmt.Sprintf("%.2g %% of the queue of notifications is in use: who listens and does not end a transaction keeps it from being emptied, %s", 100*used, who),
		"Streams are busy meanwhile, and when it is full nobody in the cluster can notify.", fix...)
	return "", err
}

// log looks at the change log: how large and old it is, and whether its ring turns.
func (v *visit) log(ctx context.Context) (string, error) {
	var size, retention string
	var seconds float64
	var slot int
	err := v.conn.QueryRow(ctx, `
		select pg_catalog.pg_size_pretty((select sum(pg_catalog.pg_total_relation_size(i.inhrelid)) from pg_catalog.pg_inherits i where i.inhparent = 'notifyql.change'::regclass)),
		       s.retention::text, extract(epoch from s.retention)::float8, s.slot_seconds
		from notifyql.setting s`).Scan(&size, &retention, &seconds, &slot)
	if err != nil {
		return "", err
	}
	kept := time.Duration(seconds * float64(time.Second))
	if kept < v.o.Limits.Retention {
		v.found(Warning, "retention", "", "the log keeps changes for "+retention+" only", "A client, or a server, that was away for longer has missed something, and begins anew.",
			sql("update notifyql.setting set retention = '24 hours', slot_seconds = greatest(slot_seconds, 14400)"))
	}
	var s stranger
	var n, tries int
	held := map[int]bool{}
	err = v.each(ctx, `
		select r.slot, r.tries, coalesce(l.pid, 0), coalesce(a.application_name, ''), coalesce(x.gid, '')
		from notifyql.ring r
		join pg_catalog.pg_locks l on l.locktype = 'relation' and l.relation = ('notifyql.change_' || r.slot)::regclass and l.granted
		 and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
		left join pg_catalog.pg_stat_activity a on a.pid = l.pid
		left join pg_catalog.pg_prepared_xacts x on l.pid is null and l.virtualtransaction = '-1/' || x.transaction::text
		where r.tries > 0 and l.pid is distinct from pg_catalog.pg_backend_pid() and coalesce(a.application_name, '') not in ('notifyql')
		order by r.slot`, []any{&n, &tries, &s.pid, &s.name, &s.gid}, func() error {
		if !held[n] {
			held[n] = true
			v.found(Warning, "log-held", "", fmt.Sprintf("slot %d of the log could not be emptied, tried %s so far: %s holds a lock on it", n, tried(tries), s),
				"The log grows until that ends.", s.end())
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	oldest, overdue, err := v.slots(ctx, kept, slot)
	if err != nil {
		return "", err
	}
	if overdue > 0 && len(held) == 0 {
		v.found(Warning, "log-overdue", "", fmt.Sprintf("the log holds changes of %v ago and keeps them for %s: nobody turns it", overdue.Round(time.Minute), retention),
			"It grows. A running server would turn it.", sql("call notifyql.prune()"))
	}
	return fmt.Sprintf("the log has %s, goes back %v and keeps changes for %s", size, oldest.Round(time.Minute), retention), nil
}

// slots looks for the log's oldest change, and for a slot whose turn is over by more than two. Both go by the index of xids, not of times.
func (v *visit) slots(ctx context.Context, kept time.Duration, slotSeconds int) (oldest, overdue time.Duration, err error) {
	var current int
	if err := v.conn.QueryRow(ctx, `select floor(extract(epoch from pg_catalog.clock_timestamp()))::bigint / $1::bigint % 10`, slotSeconds).Scan(&current); err != nil {
		return 0, 0, err
	}
	type slot struct {
		n    int
		last uint64
		age  time.Duration
	}
	var all []slot
	var newest uint64
	for n := range 10 {
		var last uint64
		var first, end float64
		rows := fmt.Sprintf(`notifyql.change c where c.slot = %d and c.xid < pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()) order by c.xid`, n)
		err := v.each(ctx, `
			select l.xid::text::bigint, extract(epoch from pg_catalog.clock_timestamp() - f.at)::float8, extract(epoch from pg_catalog.clock_timestamp() - l.at)::float8
			from (select c.at from `+rows+` limit 1) f, (select c.xid, c.at from `+rows+` desc limit 1) l`,
			[]any{&last, &first, &end}, func() error {
				oldest = max(oldest, time.Duration(first*float64(time.Second)))
				newest = max(newest, last)
				all = append(all, slot{n, last, time.Duration(end * float64(time.Second))})
				return nil
			})
		if err != nil {
			return 0, 0, err
		}
	}
	for _, s := range all {
		if s.last != newest && (s.n-current+10)%10 >= 2 && s.age > kept+2*time.Duration(slotSeconds)*time.Second {
			overdue = max(overdue, s.age)
		}
	}
	return oldest, overdue, nil
}

func (v *visit) transactions(ctx context.Context) (string, error) {
	limit := v.o.Limits.Transaction
	err := v.openTransactions(ctx, "a.datname = current_database()", limit, func(s stranger, since time.Duration, writes bool) error {
		why := "It keeps vacuum from dead rows, and slots of the log from being emptied if it has read them."
		if writes {
			why = "It has written to a watched table: what it wrote is held for later, its slot of the log can't be emptied, and if it is silent the stream stays busy."
		}
		v.found(Warning, "old-transaction", s.String(), fmt.Sprintf("its transaction is open for %v", since), why, s.end(),
			advice("and bound them: alter database … set idle_in_transaction_session_timeout = '10min'"))
		return nil
	})
	var all bool
	if err == nil {
		err = v.conn.QueryRow(ctx, `select pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'usage')`).Scan(&all)
	}
	if !all {
		return fmt.Sprintf("no transaction of the login's is open for %v; to see those of others: grant pg_read_all_stats to %s", limit, name(v.login)), err
	}
	return fmt.Sprintf("no transaction is open for %v", limit), err
}

func (v *visit) twoPhase(ctx context.Context) (string, error) {
	var prepared, allowed int
	var mode string
	err := v.conn.QueryRow(ctx, `
		select (select count(*) from pg_catalog.pg_prepared_xacts x where x.database = current_database()), pg_catalog.current_setting('max_prepared_transactions')::int, s.mode
		from notifyql.setting s`).Scan(&prepared, &allowed, &mode)
	if err != nil {
		return "", err
	}
	if prepared > 0 && mode != "busy" {
		v.found(Warning, "two-phase", "", "transactions are prepared in this database, and its mode is "+mode,
			"Postgres refuses PREPARE TRANSACTION to one that has notified, as writers do while the stream is quiet.", sql("update notifyql.setting set mode = 'busy'"))
	}
	var s stranger
	var seconds float64
	err = v.each(ctx, `
		select x.gid, extract(epoch from pg_catalog.clock_timestamp() - x.prepared)::float8
		from pg_catalog.pg_prepared_xacts x
		where x.database = current_database() and x.prepared < pg_catalog.clock_timestamp() - $1::float8 * interval '1 second' order by x.prepared limit 20`,
		[]any{&s.gid, &seconds}, func() error {
			since := time.Duration(seconds * float64(time.Second)).Round(time.Second)
			v.found(Warning, "prepared", s.String(), fmt.Sprintf("it is prepared for %v, and was neither committed nor rolled back", since),
				"It keeps its locks, and the stream busy if it has written to a watched table, over restarts too.", s.end(), advice("or commit prepared, if its coordinator says so"))
			return nil
		}, v.o.Limits.Prepared.Seconds())
	if allowed > 0 {
		return "two-phase commit is possible, and nothing is prepared for long", err
	}
	return "two-phase commit is switched off", err
}

// twice is the time between the two looks that a session has to be seen in: the locks of one moment are not listed in one.
const twice = 100 * time.Millisecond

// locks looks who has taken the advisory locks that are the servers'.
func (v *visit) locks(ctx context.Context) (string, error) {
	first, _, err := v.holders(ctx)
	if err != nil {
		return "", err
	}
	var again map[holder]bool
	leads := false
	if len(first) > 0 {
		select {
		case <-time.After(twice):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	if again, leads, err = v.holders(ctx); err != nil {
		return "", err
	}
	for h := range first {
		switch {
		case !again[h]:
		case h.which == "leader":
			v.found(Error, "leader-lock", h.String(), "it holds the lock of the leader's place, and is no server", "The stream stays busy, and nobody leads, until it ends.", h.end())
		default:
			v.found(Warning, "gate-lock", h.String(), "it holds the lock that makes writers notify or be silent, and writes nothing", "The stream can't become quiet, or writers notify nobody, until it ends.", h.end())
		}
	}
	if !leads {
		return "no server leads at the moment: changes are logged, and nothing is notified", nil
	}
	return "a server leads, and no stranger holds its locks", nil
}

// holder is who holds the leader's lock or the gate.
type holder struct {
	stranger
	which string
}

// holders are the strangers among them: sessions that are no server's, and of those that share the gate no writer's. leads reports whether a
// server has the leader's place.
func (v *visit) holders(ctx context.Context) (strangers map[holder]bool, leads bool, err error) {
	strangers = map[holder]bool{}
	var h holder
	err = v.each(ctx, `
		select k.which, l.pid, coalesce(a.application_name, '')
		from notifyql.mode m
		cross join lateral (values ('leader', m.lead), ('gate', m.gate)) k (which, key)
		join pg_catalog.pg_locks l on l.locktype = 'advisory' and l.objsubid = 1 and l.granted and l.pid is not null
		 and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
		 and l.classid::bigint = k.key >> 32 & 4294967295 and l.objid::bigint = k.key & 4294967295
		left join pg_catalog.pg_stat_activity a on a.pid = l.pid
		where k.which = 'leader' or l.mode = 'ExclusiveLock' or not exists (
		  select from pg_catalog.pg_locks w where w.pid = l.pid and w.locktype = 'relation' and w.mode = 'RowExclusiveLock' and w.relation = 'notifyql.change'::regclass)`,
		[]any{&h.which, &h.pid, &h.name}, func() error {
			switch {
			case h.name == "notifyql leader":
				leads = leads || h.which == "leader"
			case h.which == "leader" || h.name != "notifyql": // a server's heartbeat takes the gate for a moment
				strangers[h] = true
			}
			return nil
		})
	return strangers, leads, err
}

func tried(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
